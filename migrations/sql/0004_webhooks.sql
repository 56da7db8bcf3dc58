-- What gateway/tables.py says of webhooks, for migration 0004.

CREATE TABLE webhook_endpoint (
    account_id UUID NOT NULL,
    secret_version INTEGER DEFAULT 1 NOT NULL,
    former_secret_until TIMESTAMP WITH TIME ZONE,
    alert_url TEXT,
    CONSTRAINT pk_webhook_endpoint PRIMARY KEY (account_id),
    CONSTRAINT ck_webhook_endpoint_secret_version_from_one CHECK (secret_version >= 1),
    CONSTRAINT fk_webhook_endpoint_account_id_account FOREIGN KEY(account_id) REFERENCES account (id)
);

CREATE TABLE webhook_delivery (
    id UUID NOT NULL,
    account_id UUID NOT NULL,
    job_id UUID,
    kind TEXT NOT NULL,
    url TEXT NOT NULL,
    facts JSONB NOT NULL,
    state TEXT DEFAULT 'pending' NOT NULL,
    attempt INTEGER DEFAULT 0 NOT NULL,
    tries INTEGER DEFAULT 0 NOT NULL,
    next_attempt_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    pending_since TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_webhook_delivery PRIMARY KEY (id),
    CONSTRAINT uq_webhook_delivery_job_id UNIQUE (job_id),
    CONSTRAINT ck_webhook_delivery_state_known CHECK (state IN ('pending', 'delivered', 'failed')),
    CONSTRAINT ck_webhook_delivery_finished_when_not_pending CHECK ((state = 'pending') = (finished_at IS NULL)),
    CONSTRAINT ck_webhook_delivery_tries_are_attempts CHECK (attempt >= tries AND tries >= 0),
    CONSTRAINT fk_webhook_delivery_account_id_account FOREIGN KEY(account_id) REFERENCES account (id),
    CONSTRAINT fk_webhook_delivery_job_id_job FOREIGN KEY(job_id) REFERENCES job (id)
);

CREATE INDEX ix_webhook_delivery_account_id_created_at ON webhook_delivery (account_id, created_at);
CREATE INDEX ix_webhook_delivery_due ON webhook_delivery (next_attempt_at) WHERE state = 'pending';

CREATE TABLE webhook_attempt (
    delivery_id UUID NOT NULL,
    number INTEGER NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    ms INTEGER,
    status INTEGER,
    outcome TEXT,
    CONSTRAINT pk_webhook_attempt PRIMARY KEY (delivery_id, number),
    CONSTRAINT fk_webhook_attempt_delivery_id_webhook_delivery FOREIGN KEY(delivery_id) REFERENCES webhook_delivery (id)
);

-- What is told, and to whom, is written once.
GRANT SELECT, INSERT, UPDATE ON webhook_endpoint TO cutout_app;
GRANT SELECT, INSERT,
      UPDATE (state, attempt, tries, next_attempt_at, pending_since, finished_at)
    ON webhook_delivery TO cutout_app;
GRANT SELECT, INSERT, UPDATE (ms, status, outcome) ON webhook_attempt TO cutout_app;
