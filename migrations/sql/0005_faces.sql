-- What billing/staff_tables.py says of people who sign in, for migration 0005.

ALTER TABLE admin_user
    ADD COLUMN is_totp_on BOOLEAN DEFAULT false NOT NULL,
    ADD COLUMN totp_version INTEGER DEFAULT 1 NOT NULL,
    ADD COLUMN totp_last_step BIGINT DEFAULT 0 NOT NULL;

CREATE TABLE sign_in_attempt (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    email TEXT NOT NULL,
    address TEXT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    is_ok BOOLEAN NOT NULL,
    CONSTRAINT pk_sign_in_attempt PRIMARY KEY (id)
);

CREATE INDEX ix_sign_in_attempt_email_at ON sign_in_attempt (email, at);
CREATE INDEX ix_sign_in_attempt_address_at ON sign_in_attempt (address, at);

CREATE TABLE console_session (
    id_hash BYTEA NOT NULL,
    api_key_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_console_session PRIMARY KEY (id_hash),
    CONSTRAINT fk_console_session_api_key_id_api_key FOREIGN KEY(api_key_id) REFERENCES api_key (id)
);

CREATE TABLE account_note (
    id UUID NOT NULL,
    account_id UUID NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    actor TEXT NOT NULL,
    body TEXT NOT NULL,
    CONSTRAINT pk_account_note PRIMARY KEY (id),
    CONSTRAINT fk_account_note_account_id_account FOREIGN KEY(account_id) REFERENCES account (id)
);

CREATE INDEX ix_account_note_account_id_at ON account_note (account_id, at);

GRANT SELECT, INSERT, DELETE ON sign_in_attempt TO cutout_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON console_session TO cutout_app;
-- A note is written once, as all that people say of an account.
GRANT SELECT, INSERT ON account_note TO cutout_app;
