"""The rules of billing/invariants.py as queries; each finds breaches, and none is health.

`/* of x */` is where accounts are chosen when not all are asked for: one, or those that something
was written for lately. `/* of x since y */` is where one account is chosen, or what was written
lately. A query that reads `job j` is asked only where the gateway's tables exist.
"""

from typing import Final

BALANCES: Final = """
SELECT c.account_id, bucket.name AS bucket, bucket.balance,
       coalesce(e.total, 0) AS entries
FROM credit_account c
CROSS JOIN LATERAL (VALUES
    ('available', c.available), ('held', c.held), ('consumed', c.consumed),
    ('expired', c.expired)) AS bucket (name, balance)
LEFT JOIN (
    SELECT t.account_id, e.bucket, sum(e.amount) AS total
    FROM ledger_entry e JOIN ledger_txn t ON t.id = e.txn_id
    WHERE true /* of t */
    GROUP BY t.account_id, e.bucket
) e ON e.account_id = c.account_id AND e.bucket::text = bucket.name
WHERE bucket.balance <> coalesce(e.total, 0) /* of c */
"""

GRANT_BALANCES: Final = """
SELECT g.account_id, g.id AS grant_id, g.remaining, g.held, e.remaining AS entries_remaining,
       e.held AS entries_held
FROM credit_grant g
LEFT JOIN (
    SELECT e.grant_id,
           sum(e.amount) FILTER (WHERE e.bucket = 'available') AS remaining,
           sum(e.amount) FILTER (WHERE e.bucket = 'held') AS held
    FROM ledger_entry e JOIN ledger_txn t ON t.id = e.txn_id
    WHERE true /* of t */
    GROUP BY e.grant_id
) e ON e.grant_id = g.id
WHERE (g.remaining <> coalesce(e.remaining, 0) OR g.held <> coalesce(e.held, 0)) /* of g */
"""

HEADS: Final = """
SELECT c.account_id, c.account_seq, count(t.id) AS txns
FROM credit_account c LEFT JOIN ledger_txn t ON t.account_id = c.account_id
WHERE true /* of c */
GROUP BY c.account_id
HAVING c.account_seq <> count(t.id) OR c.account_seq <> coalesce(max(t.account_seq), 0)
"""

AVAILABLE: Final = """
SELECT c.account_id, c.available, coalesce(g.remaining, 0) AS remaining
FROM credit_account c
LEFT JOIN (
    SELECT g.account_id, sum(g.remaining) AS remaining FROM credit_grant g
    WHERE g.closed_at IS NULL /* of g */ GROUP BY g.account_id
) g ON g.account_id = c.account_id
-- Overdrawn means that every grant is empty; otherwise all that is available is in grants.
WHERE greatest(c.available, 0) <> coalesce(g.remaining, 0) /* of c */
"""

HELD: Final = """
SELECT c.account_id, c.held, c.open_holds, h.amount, h.holds
FROM credit_account c
LEFT JOIN (
    SELECT h.account_id, sum(h.amount) AS amount, count(*) AS holds FROM hold h
    WHERE h.state = 'held' /* of h */ GROUP BY h.account_id
) h ON h.account_id = c.account_id
WHERE (c.held <> coalesce(h.amount, 0) OR c.open_holds <> coalesce(h.holds, 0)) /* of c */
"""

SLICES: Final = """
SELECT h.account_id, h.job_id, h.amount, sum(s.amount) AS slices
FROM hold h LEFT JOIN hold_slice s ON s.job_id = h.job_id
WHERE h.state = 'held' /* of h */
GROUP BY h.job_id HAVING h.amount <> coalesce(sum(s.amount), 0)
"""

SLICES_OF_GRANTS: Final = """
SELECT g.account_id, g.id AS grant_id, g.held, s.amount AS slices
FROM credit_grant g
LEFT JOIN (
    SELECT s.grant_id, sum(s.amount) AS amount
    FROM hold h JOIN hold_slice s ON s.job_id = h.job_id
    WHERE h.state = 'held' /* of h */ GROUP BY s.grant_id
) s ON s.grant_id = g.id
WHERE g.held <> coalesce(s.amount, 0) /* of g */
"""

# The last balance that was written is the balance; I17 holds those before it together.
BALANCES_LATELY: Final = """
SELECT c.account_id, bucket.name AS bucket, bucket.balance, last.balance_after
FROM (
    SELECT DISTINCT ON (t.account_id, e.bucket) t.account_id, e.bucket, e.balance_after
    FROM ledger_txn t JOIN ledger_entry e ON e.txn_id = t.id
    WHERE true /* of t since created_at */
    ORDER BY t.account_id, e.bucket, t.account_seq DESC, e.line DESC
) last
JOIN credit_account c ON c.account_id = last.account_id
CROSS JOIN LATERAL (VALUES
    ('available', c.available), ('held', c.held), ('consumed', c.consumed),
    ('expired', c.expired)) AS bucket (name, balance)
WHERE bucket.name = last.bucket::text AND bucket.balance <> last.balance_after
"""

HEADS_LATELY: Final = """
SELECT c.account_id, c.account_seq
FROM credit_account c
WHERE c.account_seq <> coalesce(
    (SELECT max(t.account_seq) FROM ledger_txn t WHERE t.account_id = c.account_id), 0) /* of c */
"""

CHAIN: Final = """
SELECT t.account_id, t.account_seq
FROM ledger_txn t
LEFT JOIN ledger_txn before
    ON before.account_id = t.account_id AND before.account_seq = t.account_seq - 1
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(e.bucket::text ORDER BY e.line), '{}') AS buckets,
           coalesce(array_agg(e.grant_id ORDER BY e.line), '{}') AS grants,
           coalesce(array_agg(e.amount ORDER BY e.line), '{}') AS amounts
    FROM ledger_entry e WHERE e.txn_id = t.id
) e
WHERE ((before.id IS NULL AND t.account_seq <> 1)
       OR t.prev_hash <> coalesce(before.hash, ''::bytea)
       OR t.hash <> ledger_hash(t.prev_hash, t.account_id, t.account_seq, t.op::text, t.ref,
                                t.actor, t.reason, t.reverses, t.effective_at, e.buckets,
                                e.grants, e.amounts)) /* of t since created_at */
"""

CHAIN_HEAD: Final = """
SELECT c.account_id, c.account_seq
FROM credit_account c JOIN ledger_txn t
    ON t.account_id = c.account_id AND t.account_seq = c.account_seq
WHERE c.last_hash <> t.hash /* of c */
"""

AUDIT_CHAIN: Final = """
SELECT a.account_id, a.seq
FROM (
    SELECT a.*, lag(a.hash, 1, ''::bytea) OVER (ORDER BY a.seq) AS hash_before,
           lag(a.seq, 1, 0::bigint) OVER (ORDER BY a.seq) AS seq_before
    FROM audit_event a
) a
WHERE a.seq <> a.seq_before + 1 OR a.prev_hash <> a.hash_before
"""

AUDIT_HEAD: Final = """
SELECT NULL::uuid AS account_id, h.seq
FROM audit_head h
LEFT JOIN LATERAL (SELECT a.seq, a.hash FROM audit_event a ORDER BY a.seq DESC LIMIT 1) last
    ON true
WHERE h.seq <> coalesce(last.seq, 0) OR h.hash <> coalesce(last.hash, ''::bytea)
"""

BURN_DOWN: Final = """
WITH skipped AS MATERIALIZED (
    SELECT t.account_id, t.account_seq, t.ref AS job_id, earlier.id AS grant_id
    FROM ledger_txn t
    -- The last of the grants that paid for this hold ...
    CROSS JOIN LATERAL (
        SELECT g.priority, coalesce(g.expires_at, 'infinity') AS expires_at, g.effective_at, g.seq,
               e.grant_id IS NULL AS is_on_limit
        FROM ledger_entry e LEFT JOIN credit_grant g ON g.id = e.grant_id
        WHERE e.txn_id = t.id AND e.bucket = 'available'
        ORDER BY e.line DESC LIMIT 1
    ) payer
    -- ... and one that should have paid before it, ...
    JOIN credit_grant earlier ON earlier.account_id = t.account_id
        AND earlier.activated_at <= t.effective_at
        AND (earlier.closed_at IS NULL OR earlier.closed_at > t.effective_at)
        AND (payer.is_on_limit
             OR (earlier.priority, coalesce(earlier.expires_at, 'infinity'), earlier.effective_at,
                 earlier.seq)
                < (payer.priority, payer.expires_at, payer.effective_at, payer.seq))
    WHERE t.op = 'hold' /* of t since created_at */
)
SELECT s.account_id, s.job_id, s.grant_id AS skipped_grant
FROM (
    -- ... with what it had left then: its entries and the holds, in one line, added up once.
    SELECT s.account_id, s.job_id, s.grant_id,
           sum(s.amount) OVER (PARTITION BY s.grant_id ORDER BY s.account_seq) AS was_left
    FROM (
        SELECT s.account_id, s.account_seq, s.job_id, s.grant_id, 0 AS amount FROM skipped s
        UNION ALL
        SELECT b.account_id, b.account_seq, NULL, e.grant_id, e.amount
        FROM ledger_txn b JOIN ledger_entry e ON e.txn_id = b.id
        WHERE b.account_id IN (SELECT account_id FROM skipped)
          AND e.grant_id IN (SELECT grant_id FROM skipped) AND e.bucket = 'available'
    ) s
) s
WHERE s.job_id IS NOT NULL AND s.was_left > 0
"""

FOOTING: Final = """
SELECT t.account_id, t.account_seq, t.line, t.bucket
FROM (
    SELECT t.account_id, t.account_seq, e.line, e.bucket, e.amount, e.balance_after,
           lag(e.balance_after) OVER w AS balance_before,
           first_value(t.account_seq) OVER (PARTITION BY t.account_id ORDER BY t.account_seq)
               AS first_seq
    FROM ledger_txn t JOIN ledger_entry e ON e.txn_id = t.id WHERE true /* of t since created_at */
    WINDOW w AS (PARTITION BY t.account_id, e.bucket ORDER BY t.account_seq, e.line)
) t
-- Where only the end of a statement is read, a bucket's first line has nothing before it.
WHERE t.balance_after - t.amount <> coalesce(
    t.balance_before, CASE t.first_seq WHEN 1 THEN 0 ELSE t.balance_after - t.amount END)
"""

TIME_ORDER: Final = """
SELECT t.account_id, t.account_seq
FROM (
    SELECT t.account_id, t.account_seq, t.effective_at,
           lag(t.effective_at) OVER (PARTITION BY t.account_id ORDER BY t.account_seq) AS before
    FROM ledger_txn t WHERE true /* of t since created_at */
) t
WHERE t.effective_at < t.before
"""

QUERIES: Final[dict[str, tuple[str, ...]]] = {
    "I1": (
        """SELECT t.account_id, t.id AS txn_id, sum(e.amount) AS total
        FROM ledger_txn t JOIN ledger_entry e ON e.txn_id = t.id
        WHERE true /* of t since created_at */ GROUP BY t.id HAVING sum(e.amount) <> 0""",
    ),
    "I2": (
        """SELECT c.account_id, c.available, c.held, c.credit_limit FROM credit_account c
        WHERE (c.available < -c.credit_limit OR c.held < 0 OR c.consumed < 0 OR c.expired < 0)
        /* of c */""",
    ),
    "I3": (BALANCES, GRANT_BALANCES, HEADS),
    "I4": (AVAILABLE, HELD, SLICES, SLICES_OF_GRANTS),
    "I5": (CHAIN, CHAIN_HEAD, AUDIT_CHAIN, AUDIT_HEAD),
    "I6": (
        """SELECT t.account_id, t.op, t.ref FROM ledger_txn t
        WHERE EXISTS (SELECT FROM ledger_txn other WHERE other.account_id = t.account_id
                      AND other.op = t.op AND other.ref = t.ref AND other.id <> t.id)
        /* of t since created_at */""",
        """SELECT t.account_id, t.reverses FROM ledger_txn t WHERE t.reverses IS NOT NULL
        /* of t */ GROUP BY t.account_id, t.reverses HAVING count(*) > 1""",
    ),
    "I7": (
        """SELECT h.account_id, h.job_id, h.state, t.op, t.ref
        FROM hold h LEFT JOIN ledger_txn t ON t.id = h.txn_id
        WHERE h.state <> 'held' AND h.amount > 0 /* of h */ /* of h since settled_at */
          AND (t.ref, t.op::text) IS DISTINCT FROM
              (h.job_id::text, CASE h.state WHEN 'captured' THEN 'capture' ELSE 'release' END)""",
        """SELECT t.account_id, t.ref AS job_id FROM ledger_txn t
        LEFT JOIN hold h ON h.job_id = t.ref::uuid AND h.account_id = t.account_id
        WHERE t.op = 'capture' /* of t since created_at */
          AND h.state IS DISTINCT FROM 'captured'""",
        """SELECT j.account_id, j.id AS job_id, j.state, h.state AS hold_state
        FROM job j LEFT JOIN hold h ON h.job_id = j.id
        WHERE (j.state = 'succeeded') <> (h.state IS NOT DISTINCT FROM 'captured')
        /* of j since finished_at */""",
        """SELECT h.account_id, h.job_id, j.state, h.state AS hold_state
        FROM hold h JOIN job j ON j.id = h.job_id
        WHERE (j.state = 'succeeded') <> (h.state = 'captured')
        /* of h */ /* of h since settled_at */""",
    ),
    "I8": (
        """SELECT h.account_id, h.job_id, j.state FROM hold h JOIN job j ON j.id = h.job_id
        WHERE h.state = 'held' AND j.state NOT IN ('queued', 'processing') /* of h */""",
        """SELECT j.account_id, j.id AS job_id, h.state FROM job j
        LEFT JOIN hold h ON h.job_id = j.id
        WHERE j.state IN ('queued', 'processing') AND h.state IS DISTINCT FROM 'held'
        /* of j */""",
    ),
    "I9": (
        """SELECT t.account_id, t.ref AS job_id FROM ledger_txn t
        WHERE t.op IN ('capture', 'release') /* of t since created_at */
          AND EXISTS (SELECT FROM ledger_txn other WHERE other.account_id = t.account_id
                      AND other.op IN ('capture', 'release') AND other.ref = t.ref
                      AND other.id <> t.id)""",
    ),
    "I10": (BURN_DOWN,),
    "I11": (
        """SELECT p.account_id, p.period_start, count(t.id) AS closes FROM billing_period p
        LEFT JOIN ledger_txn t ON t.account_id = p.account_id AND t.op = 'rollover'
            AND t.effective_at = p.closed_at
        WHERE p.closed_at IS NOT NULL /* of p */
        GROUP BY p.account_id, p.period_start HAVING count(t.id) <> 1""",
        """SELECT p.account_id, p.period_start, count(g.id) AS plan_grants FROM billing_period p
        LEFT JOIN credit_grant g ON g.account_id = p.account_id AND g.source = 'plan'
            AND g.period_start = p.period_start AND g.effective_at = p.period_start
            AND g.ref NOT LIKE 'plan:upgrade:%'
        WHERE true /* of p */
        GROUP BY p.account_id, p.period_start HAVING count(g.id) > 1""",
        """SELECT p.account_id, p.period_start FROM (
            SELECT p.*, lag(p.period_end) OVER (PARTITION BY p.account_id
                                                ORDER BY p.period_start) AS end_before
            FROM billing_period p WHERE true /* of p */) p
        WHERE p.period_start <> p.end_before""",
    ),
    "I12": (
        """SELECT p.account_id, p.period_start, p.rolled_in, p.rollover_cap, g.amount
        FROM billing_period p LEFT JOIN (
            SELECT g.account_id, g.period_start, sum(g.amount) AS amount FROM credit_grant g
            WHERE g.source = 'rollover' /* of g */ GROUP BY g.account_id, g.period_start
        ) g ON g.account_id = p.account_id AND g.period_start = p.period_start
        WHERE (p.rolled_in > p.rollover_cap OR coalesce(g.amount, 0) > p.rolled_in) /* of p */""",
        """SELECT g.account_id, g.id AS grant_id, g.generation
        FROM credit_grant g JOIN credit_grant parent ON parent.id = g.parent_id
        WHERE (g.source <> 'rollover' OR g.generation <= parent.generation
               OR g.expires_at IS DISTINCT FROM parent.expires_at) /* of g */""",
    ),
    "I14": (
        """SELECT j.account_id, j.id AS job_id FROM job j
        WHERE j.state = 'succeeded' AND (j.result_key IS NULL OR j.result_expires_at IS NULL
                                         OR j.purged_at < j.result_expires_at)
        /* of j since finished_at */""",
    ),
    "I15": (
        """SELECT t.account_id, t.id AS txn_id, g.id AS grant_id FROM ledger_txn t
        JOIN ledger_entry e ON e.txn_id = t.id JOIN credit_grant g ON g.id = e.grant_id
        WHERE g.account_id <> t.account_id /* of t since created_at */""",
        """SELECT h.account_id, h.job_id, g.id AS grant_id FROM hold h
        JOIN hold_slice s ON s.job_id = h.job_id JOIN credit_grant g ON g.id = s.grant_id
        WHERE g.account_id <> h.account_id /* of h */ /* of h since settled_at */""",
        """SELECT h.account_id, h.job_id FROM hold h JOIN api_key k ON k.id = h.api_key_id
        WHERE k.account_id <> h.account_id /* of h */ /* of h since settled_at */""",
        """SELECT j.account_id, j.id AS job_id FROM job j
        JOIN hold h ON h.job_id = j.id JOIN api_key k ON k.id = j.api_key_id
        WHERE (h.account_id <> j.account_id OR k.account_id <> j.account_id)
        /* of j since finished_at */""",
    ),
    "I16": (
        """SELECT r.account_id, r.key, r.job_id FROM idempotency_record r
        JOIN job j ON j.id = r.job_id WHERE j.account_id <> r.account_id /* of r */""",
        """SELECT r.account_id, r.job_id FROM idempotency_record r
        JOIN job j ON j.id = r.job_id WHERE true /* of r */
        GROUP BY r.account_id, r.job_id HAVING count(*) > 1""",
    ),
    "I17": (FOOTING, TIME_ORDER),
}

# What is asked instead where only what was written lately is read.
LATELY: Final[dict[str, tuple[str, ...]]] = {"I3": (BALANCES_LATELY, HEADS_LATELY)}
