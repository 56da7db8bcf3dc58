-- What gateway/tables.py says, for migration 0002.

CREATE TABLE job (
    id UUID NOT NULL,
    account_id UUID NOT NULL,
    api_key_id UUID NOT NULL,
    request_id TEXT NOT NULL,
    dialect TEXT NOT NULL,
    env TEXT NOT NULL,
    queue_class TEXT NOT NULL,
    is_async BOOLEAN NOT NULL,
    webhook_url TEXT,
    state TEXT NOT NULL,
    attempt INTEGER DEFAULT 1 NOT NULL,
    lease_until TIMESTAMP WITH TIME ZONE,
    available_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    deadline_at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    stage TEXT,
    progress INTEGER DEFAULT 0 NOT NULL,
    model_asked TEXT NOT NULL,
    options JSONB NOT NULL,
    source_key TEXT,
    background_key TEXT,
    source_bytes BIGINT NOT NULL,
    price_credits BIGINT NOT NULL,
    charged_credits BIGINT DEFAULT 0 NOT NULL,
    model_ran TEXT,
    result_key TEXT,
    result_bytes BIGINT,
    result_ttl INTERVAL NOT NULL,
    result_expires_at TIMESTAMP WITH TIME ZONE,
    purged_at TIMESTAMP WITH TIME ZONE,
    is_tidy BOOLEAN DEFAULT false NOT NULL,
    extension TEXT,
    media_type TEXT,
    width_px INTEGER,
    height_px INTEGER,
    confidence DOUBLE PRECISION,
    reasons JSONB DEFAULT '[]' NOT NULL,
    warnings JSONB DEFAULT '[]' NOT NULL,
    refinement TEXT,
    stages_ms JSONB DEFAULT '{}' NOT NULL,
    error_code TEXT,
    error_kind TEXT,
    error_facts JSONB DEFAULT '{}' NOT NULL,
    CONSTRAINT pk_job PRIMARY KEY (id),
    CONSTRAINT ck_job_state_known CHECK (state IN ('queued', 'processing', 'succeeded', 'failed', 'canceled')),
    CONSTRAINT ck_job_queue_class_known CHECK (queue_class IN ('priority', 'standard')),
    CONSTRAINT ck_job_lease_while_processing CHECK ((state = 'processing') = (lease_until IS NOT NULL)),
    CONSTRAINT ck_job_finished_when_ended CHECK ((state IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)),
    CONSTRAINT ck_job_result_if_good CHECK ((state = 'succeeded') = (result_key IS NOT NULL)),
    CONSTRAINT ck_job_error_if_failed CHECK ((state = 'failed') = (error_code IS NOT NULL)),
    CONSTRAINT ck_job_charged_if_good CHECK (charged_credits = CASE WHEN state = 'succeeded' THEN price_credits ELSE 0 END),
    CONSTRAINT ck_job_price_not_negative CHECK (price_credits >= 0),
    CONSTRAINT ck_job_attempt_from_one CHECK (attempt >= 1),
    CONSTRAINT ck_job_progress_percent CHECK (progress BETWEEN 0 AND 100),
    CONSTRAINT ck_job_confidence_share CHECK (confidence BETWEEN 0 AND 1),
    CONSTRAINT fk_job_account_id_account FOREIGN KEY(account_id) REFERENCES account (id),
    CONSTRAINT fk_job_api_key_id_api_key FOREIGN KEY(api_key_id) REFERENCES api_key (id)
);

CREATE INDEX ix_job_deadline ON job (deadline_at) WHERE state IN ('queued', 'processing');
CREATE INDEX ix_job_processing ON job (lease_until, account_id) WHERE state = 'processing';
CREATE INDEX ix_job_queued ON job (queue_class, account_id, created_at) WHERE state = 'queued';
CREATE INDEX ix_job_result_expires_at ON job (result_expires_at) WHERE state = 'succeeded' AND purged_at IS NULL;
CREATE INDEX ix_job_untidy ON job (finished_at) WHERE finished_at IS NOT NULL AND NOT is_tidy;

CREATE TABLE outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    job_id UUID NOT NULL,
    attempt INTEGER NOT NULL,
    queue_class TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT pk_outbox PRIMARY KEY (id),
    CONSTRAINT fk_outbox_job_id_job FOREIGN KEY(job_id) REFERENCES job (id)
);

CREATE INDEX ix_outbox_job_id ON outbox (job_id);

CREATE TABLE idempotency_record (
    account_id UUID NOT NULL,
    env TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    job_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_idempotency_record PRIMARY KEY (account_id, env, key),
    CONSTRAINT fk_idempotency_record_account_id_account FOREIGN KEY(account_id) REFERENCES account (id)
);

CREATE INDEX ix_idempotency_record_expires_at ON idempotency_record (expires_at);
CREATE INDEX ix_idempotency_record_job_id ON idempotency_record (job_id);

GRANT SELECT, INSERT, UPDATE ON job TO cutout_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox, idempotency_record TO cutout_app;
