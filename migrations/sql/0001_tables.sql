-- The ledger's tables, in the order in which they need each other. What each is for is said in
-- billing/tables.py and billing/staff_tables.py, which a test holds equal to this.

CREATE TYPE grant_source AS ENUM ('plan', 'rollover', 'topup', 'promo', 'adjustment', 'refund');
CREATE TYPE grant_end AS ENUM ('expired', 'rolled', 'voided', 'exhausted');
CREATE TYPE hold_state AS ENUM ('held', 'captured', 'released', 'expired');
CREATE TYPE ledger_op AS ENUM ('grant', 'hold', 'capture', 'release', 'expire', 'rollover', 'adjust', 'refund', 'void');
CREATE TYPE bucket AS ENUM ('issued', 'available', 'held', 'consumed', 'expired');

CREATE TABLE account (
    id UUID NOT NULL,
    name TEXT NOT NULL,
    status TEXT DEFAULT 'active' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_account PRIMARY KEY (id),
    CONSTRAINT ck_account_status_known CHECK (status IN ('active', 'suspended', 'closed'))
);

CREATE TABLE admin_user (
    id UUID NOT NULL,
    email TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    disabled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_admin_user PRIMARY KEY (id),
    CONSTRAINT ck_admin_user_role_known CHECK (role IN ('viewer', 'support', 'finance', 'owner')),
    CONSTRAINT uq_admin_user_email UNIQUE (email)
);

CREATE TABLE audit_head (
    id SMALLINT NOT NULL,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT pk_audit_head PRIMARY KEY (id),
    CONSTRAINT ck_audit_head_only_one CHECK (id = 1)
);

CREATE TABLE invariant_run (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    is_ok BOOLEAN NOT NULL,
    count BIGINT NOT NULL,
    sample JSONB NOT NULL,
    elapsed_ms INTEGER NOT NULL,
    CONSTRAINT pk_invariant_run PRIMARY KEY (id)
);

CREATE INDEX ix_invariant_run_started_at ON invariant_run (started_at);

CREATE TABLE ledger_entry (
    txn_id BIGINT NOT NULL,
    line SMALLINT NOT NULL,
    bucket bucket NOT NULL,
    grant_id UUID,
    amount BIGINT NOT NULL,
    balance_after BIGINT NOT NULL,
    CONSTRAINT pk_ledger_entry PRIMARY KEY (txn_id, line),
    CONSTRAINT ck_ledger_entry_amount_not_zero CHECK (amount <> 0)
);

CREATE TABLE ledger_txn (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    account_id UUID NOT NULL,
    account_seq BIGINT NOT NULL,
    op ledger_op NOT NULL,
    ref TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    reverses BIGINT,
    effective_at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    prev_hash BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT pk_ledger_txn PRIMARY KEY (id),
    CONSTRAINT uq_ledger_txn_account_id_op_ref UNIQUE (account_id, op, ref),
    CONSTRAINT uq_ledger_txn_account_id_account_seq UNIQUE (account_id, account_seq),
    CONSTRAINT fk_ledger_txn_reverses_ledger_txn FOREIGN KEY(reverses) REFERENCES ledger_txn (id)
);

CREATE INDEX ix_ledger_txn_created_at ON ledger_txn USING brin (created_at);

CREATE UNIQUE INDEX uq_ledger_txn_reverses ON ledger_txn (reverses) WHERE reverses IS NOT NULL;

CREATE TABLE plan (
    code TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_plan PRIMARY KEY (code)
);

CREATE TABLE admin_session (
    id_hash BYTEA NOT NULL,
    admin_user_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_admin_session PRIMARY KEY (id_hash),
    CONSTRAINT fk_admin_session_admin_user_id_admin_user FOREIGN KEY(admin_user_id) REFERENCES admin_user (id)
);

CREATE TABLE api_key (
    id UUID NOT NULL,
    account_id UUID NOT NULL,
    key_id TEXT NOT NULL,
    env TEXT NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    key_hash BYTEA NOT NULL,
    pepper_version INTEGER NOT NULL,
    last4 TEXT NOT NULL,
    scopes TEXT[] NOT NULL,
    rate_per_minute INTEGER,
    burst INTEGER,
    concurrency_max INTEGER,
    queue_class TEXT,
    ip_allow TEXT[],
    budget_credits BIGINT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    last_used_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE,
    grace_until TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    rotated_from UUID,
    root_id UUID,
    CONSTRAINT pk_api_key PRIMARY KEY (id),
    CONSTRAINT ck_api_key_env_known CHECK (env IN ('live', 'test', 'enterprise')),
    CONSTRAINT ck_api_key_queue_known CHECK (queue_class IN ('standard', 'priority')),
    CONSTRAINT ck_api_key_rate_positive CHECK (rate_per_minute > 0),
    CONSTRAINT ck_api_key_burst_positive CHECK (burst > 0),
    CONSTRAINT ck_api_key_concurrency_positive CHECK (concurrency_max > 0),
    CONSTRAINT ck_api_key_budget_not_negative CHECK (budget_credits >= 0),
    CONSTRAINT fk_api_key_account_id_account FOREIGN KEY(account_id) REFERENCES account (id),
    CONSTRAINT uq_api_key_key_id UNIQUE (key_id),
    CONSTRAINT fk_api_key_rotated_from_api_key FOREIGN KEY(rotated_from) REFERENCES api_key (id),
    CONSTRAINT fk_api_key_root_id_api_key FOREIGN KEY(root_id) REFERENCES api_key (id)
);

CREATE INDEX ix_api_key_account_id ON api_key (account_id);

CREATE TABLE audit_event (
    seq BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    account_id UUID,
    reason TEXT NOT NULL,
    before JSONB,
    after JSONB,
    request_id TEXT,
    prev_hash BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    CONSTRAINT pk_audit_event PRIMARY KEY (seq),
    CONSTRAINT fk_audit_event_account_id_account FOREIGN KEY(account_id) REFERENCES account (id)
);

CREATE INDEX ix_audit_event_account_id ON audit_event (account_id);

CREATE TABLE credit_account (
    account_id UUID NOT NULL,
    available BIGINT DEFAULT '0' NOT NULL,
    held BIGINT DEFAULT '0' NOT NULL,
    consumed BIGINT DEFAULT '0' NOT NULL,
    expired BIGINT DEFAULT '0' NOT NULL,
    credit_limit BIGINT DEFAULT '0' NOT NULL,
    open_holds INTEGER DEFAULT '0' NOT NULL,
    account_seq BIGINT DEFAULT '0' NOT NULL,
    last_hash BYTEA DEFAULT ''::bytea NOT NULL,
    advanced_at TIMESTAMP WITH TIME ZONE NOT NULL,
    next_due_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_credit_account PRIMARY KEY (account_id),
    CONSTRAINT ck_credit_account_limit_not_negative CHECK (credit_limit >= 0),
    CONSTRAINT ck_credit_account_available_within_limit CHECK (available >= -credit_limit),
    CONSTRAINT ck_credit_account_held_not_negative CHECK (held >= 0),
    CONSTRAINT ck_credit_account_consumed_not_negative CHECK (consumed >= 0),
    CONSTRAINT ck_credit_account_expired_not_negative CHECK (expired >= 0),
    CONSTRAINT ck_credit_account_open_holds_not_negative CHECK (open_holds >= 0),
    CONSTRAINT fk_credit_account_account_id_account FOREIGN KEY(account_id) REFERENCES account (id)
)
 WITH (fillfactor = 50);

CREATE INDEX ix_credit_account_next_due_at ON credit_account (next_due_at);

CREATE TABLE credit_grant (
    id UUID NOT NULL,
    seq BIGINT GENERATED ALWAYS AS IDENTITY,
    account_id UUID NOT NULL,
    source grant_source NOT NULL,
    ref TEXT NOT NULL,
    parent_id UUID,
    generation INTEGER DEFAULT '0' NOT NULL,
    amount BIGINT NOT NULL,
    remaining BIGINT DEFAULT '0' NOT NULL,
    held BIGINT DEFAULT '0' NOT NULL,
    priority SMALLINT NOT NULL,
    period_start TIMESTAMP WITH TIME ZONE,
    effective_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE,
    activated_at TIMESTAMP WITH TIME ZONE,
    closed_at TIMESTAMP WITH TIME ZONE,
    closed_reason grant_end,
    actor TEXT NOT NULL,
    reason TEXT DEFAULT '' NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_credit_grant PRIMARY KEY (id),
    CONSTRAINT ck_credit_grant_amount_positive CHECK (amount > 0),
    CONSTRAINT ck_credit_grant_parts_of_amount CHECK (remaining >= 0 AND held >= 0 AND remaining + held <= amount),
    CONSTRAINT ck_credit_grant_priority_in_range CHECK (priority BETWEEN 0 AND 100),
    CONSTRAINT ck_credit_grant_expires_after_it_begins CHECK (expires_at > effective_at),
    CONSTRAINT ck_credit_grant_closed_with_reason CHECK ((closed_at IS NULL) = (closed_reason IS NULL)),
    CONSTRAINT ck_credit_grant_closed_is_empty CHECK (closed_at IS NULL OR remaining = 0),
    CONSTRAINT fk_credit_grant_account_id_account FOREIGN KEY(account_id) REFERENCES account (id),
    CONSTRAINT fk_credit_grant_parent_id_credit_grant FOREIGN KEY(parent_id) REFERENCES credit_grant (id)
)
 WITH (fillfactor = 50);

CREATE INDEX ix_credit_grant_burn_down ON credit_grant (account_id, priority, expires_at, effective_at, seq) WHERE closed_at IS NULL;

CREATE TABLE plan_version (
    id UUID NOT NULL,
    plan TEXT NOT NULL,
    version INTEGER NOT NULL,
    monthly_credits BIGINT NOT NULL,
    price_minor BIGINT NOT NULL,
    currency TEXT NOT NULL,
    rollover_cap BIGINT NOT NULL,
    rollover_periods INTEGER NOT NULL,
    rate_per_minute INTEGER NOT NULL,
    burst INTEGER NOT NULL,
    concurrency_max INTEGER NOT NULL,
    queue_class TEXT NOT NULL,
    result_ttl INTERVAL NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_plan_version PRIMARY KEY (id),
    CONSTRAINT uq_plan_version_plan_version UNIQUE (plan, version),
    CONSTRAINT ck_plan_version_version_positive CHECK (version >= 1),
    CONSTRAINT ck_plan_version_credits_not_negative CHECK (monthly_credits >= 0),
    CONSTRAINT ck_plan_version_price_not_negative CHECK (price_minor >= 0),
    CONSTRAINT ck_plan_version_rollover_not_negative CHECK (rollover_cap >= 0 AND rollover_periods >= 0),
    CONSTRAINT ck_plan_version_rate_positive CHECK (rate_per_minute > 0 AND burst > 0),
    CONSTRAINT ck_plan_version_concurrency_positive CHECK (concurrency_max > 0),
    CONSTRAINT ck_plan_version_queue_known CHECK (queue_class IN ('standard', 'priority')),
    CONSTRAINT fk_plan_version_plan_plan FOREIGN KEY(plan) REFERENCES plan (code)
);

CREATE TABLE billing_period (
    account_id UUID NOT NULL,
    period_start TIMESTAMP WITH TIME ZONE NOT NULL,
    period_end TIMESTAMP WITH TIME ZONE NOT NULL,
    plan_version_id UUID NOT NULL,
    rolled_in BIGINT DEFAULT '0' NOT NULL,
    rollover_cap BIGINT DEFAULT '0' NOT NULL,
    closed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_billing_period PRIMARY KEY (account_id, period_start),
    CONSTRAINT ck_billing_period_period_forward CHECK (period_start < period_end),
    CONSTRAINT ck_billing_period_rolled_within_cap CHECK (rolled_in >= 0 AND rolled_in <= rollover_cap),
    CONSTRAINT fk_billing_period_account_id_account FOREIGN KEY(account_id) REFERENCES account (id),
    CONSTRAINT fk_billing_period_plan_version_id_plan_version FOREIGN KEY(plan_version_id) REFERENCES plan_version (id)
);

CREATE TABLE hold (
    job_id UUID NOT NULL,
    account_id UUID NOT NULL,
    api_key_id UUID,
    amount BIGINT NOT NULL,
    state hold_state DEFAULT 'held' NOT NULL,
    txn_id BIGINT,
    placed_at TIMESTAMP WITH TIME ZONE NOT NULL,
    settled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_hold PRIMARY KEY (job_id),
    CONSTRAINT ck_hold_amount_not_negative CHECK (amount >= 0),
    CONSTRAINT ck_hold_settled_with_time CHECK ((state = 'held') = (settled_at IS NULL)),
    CONSTRAINT fk_hold_account_id_credit_account FOREIGN KEY(account_id) REFERENCES credit_account (account_id)
);

CREATE INDEX ix_hold_account_id_settled_at ON hold (account_id, settled_at) WHERE settled_at IS NOT NULL;

CREATE INDEX ix_hold_open ON hold (account_id) WHERE state = 'held';

CREATE TABLE key_budget (
    api_key_id UUID NOT NULL,
    period_start TIMESTAMP WITH TIME ZONE NOT NULL,
    used BIGINT NOT NULL,
    CONSTRAINT pk_key_budget PRIMARY KEY (api_key_id, period_start),
    CONSTRAINT ck_key_budget_used_not_negative CHECK (used >= 0),
    CONSTRAINT fk_key_budget_api_key_id_api_key FOREIGN KEY(api_key_id) REFERENCES api_key (id)
)
 WITH (fillfactor = 50);

CREATE TABLE subscription (
    id UUID NOT NULL,
    account_id UUID NOT NULL,
    plan_version_id UUID NOT NULL,
    next_plan_version_id UUID,
    anchor_at TIMESTAMP WITH TIME ZONE NOT NULL,
    period_start TIMESTAMP WITH TIME ZONE NOT NULL,
    period_end TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_subscription PRIMARY KEY (id),
    CONSTRAINT ck_subscription_period_forward CHECK (period_start < period_end),
    CONSTRAINT fk_subscription_account_id_account FOREIGN KEY(account_id) REFERENCES account (id),
    CONSTRAINT fk_subscription_plan_version_id_plan_version FOREIGN KEY(plan_version_id) REFERENCES plan_version (id),
    CONSTRAINT fk_subscription_next_plan_version_id_plan_version FOREIGN KEY(next_plan_version_id) REFERENCES plan_version (id)
);

CREATE UNIQUE INDEX uq_subscription_live ON subscription (account_id) WHERE ended_at IS NULL;

CREATE TABLE hold_slice (
    job_id UUID NOT NULL,
    line SMALLINT NOT NULL,
    grant_id UUID,
    amount BIGINT NOT NULL,
    CONSTRAINT pk_hold_slice PRIMARY KEY (job_id, line),
    CONSTRAINT ck_hold_slice_amount_positive CHECK (amount > 0),
    CONSTRAINT fk_hold_slice_job_id_hold FOREIGN KEY(job_id) REFERENCES hold (job_id)
);

