-- What the dashboard reads and writes, for migration 0007.

CREATE TABLE admin_act (
    id UUID NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    CONSTRAINT pk_admin_act PRIMARY KEY (id)
);

CREATE TABLE refusal_count (
    hour TIMESTAMP WITH TIME ZONE NOT NULL,
    dialect TEXT NOT NULL,
    code TEXT NOT NULL,
    calls BIGINT NOT NULL,
    CONSTRAINT pk_refusal_count PRIMARY KEY (hour, dialect, code),
    CONSTRAINT ck_refusal_count_calls_positive CHECK (calls > 0)
);

CREATE INDEX IF NOT EXISTS ix_hold_settled_at ON hold (settled_at) INCLUDE (account_id, state, amount)
    WHERE settled_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS ix_credit_grant_activated_at ON credit_grant (activated_at) INCLUDE (source, amount);
CREATE INDEX IF NOT EXISTS ix_ledger_entry_ended ON ledger_entry (txn_id) INCLUDE (bucket, amount)
    WHERE amount > 0 AND bucket IN ('issued', 'expired');
CREATE INDEX IF NOT EXISTS ix_job_created_at ON job (created_at, id);
CREATE INDEX IF NOT EXISTS ix_job_account_id_created_at ON job (account_id, created_at);
CREATE INDEX IF NOT EXISTS ix_job_finished_at ON job (finished_at) INCLUDE (state, created_at, started_at)
    WHERE finished_at IS NOT NULL;

GRANT SELECT, INSERT ON admin_act TO cutout_app;
GRANT SELECT, INSERT, UPDATE ON refusal_count TO cutout_app;
