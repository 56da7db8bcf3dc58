"""One-time codes of an authenticator app: RFC 6238, 6 digits, half a minute, SHA-1 as apps have it.

No table holds a secret: it is derived from the installation's own, the person and a version, as
webhook secrets are (docs/adr/0015). A code is good once: the half minute it came from is kept.
"""

import base64
import hmac
from datetime import datetime
from typing import Final
from uuid import UUID

import pyotp
import segno
from sqlalchemy.ext.asyncio import AsyncSession

from billing import audit
from billing.staff_tables import AdminUser
from gateway.settings import Settings

ISSUER: Final = "Cutout Gateway"
STEP_S: Final = 30
DRIFT_STEPS: Final = 1
"""Clocks of telephones are off by some seconds."""
SECRET_BYTES: Final = 20


def secret_of(settings: Settings, admin_user_id: UUID, version: int) -> str:
    """Derive the secret, as apps take it: base32."""
    master = settings.link_secret.get_secret_value().encode()
    # No other message signed with the links' secret begins like this one.
    message = f"totp-secret-1|{admin_user_id}|{version}".encode()
    return base64.b32encode(hmac.digest(master, message, "sha256")[:SECRET_BYTES]).decode()


def step_of_code(secret: str, code: str, at: datetime, *, last_step: int) -> int | None:
    """Tell which half minute a code belongs to, if it is right and was not used before."""
    totp = pyotp.TOTP(secret)
    now = int(at.timestamp()) // STEP_S
    digits = code.replace(" ", "")
    for step in range(now - DRIFT_STEPS, now + DRIFT_STEPS + 1):
        expected = totp.at(step * STEP_S)
        if step > last_step and hmac.compare_digest(expected.encode(), digits.encode()):
            return step
    return None


async def forget_codes(db: AsyncSession, user: AdminUser, *, actor: str) -> None:
    """Ask for no code any more; what the app has of the old secret is worth nothing from now on."""
    user.is_totp_on, user.totp_version = False, user.totp_version + 1
    await audit.record(db, actor=actor, action="admin.codes_off", object_name=f"admin:{user.email}")


def picture_of(secret: str, email: str) -> str:
    """Draw the QR code that an app reads, as SVG markup without any style of its own."""
    uri = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)
    drawn: str = segno.make(uri, error="m").svg_inline(
        scale=5, border=2, dark="#000", light="#fff", omitsize=False, svgclass="qr", lineclass=None
    )
    return drawn
