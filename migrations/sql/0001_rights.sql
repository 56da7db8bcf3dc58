-- The group that the application's login roles belong to. It may append to the ledger and never
-- change it; the triggers refuse even those who may more.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cutout_app') THEN
        CREATE ROLE cutout_app NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- roles are the server's: another database of it was migrated at the same moment
END $$;

GRANT USAGE ON SCHEMA public TO cutout_app;
-- To tell at start whether the migrations were run.
GRANT SELECT ON alembic_version TO cutout_app;
-- Written once.
GRANT SELECT, INSERT ON plan, plan_version, ledger_txn, ledger_entry, audit_event TO cutout_app;
-- Written, and moved on.
GRANT SELECT, INSERT, UPDATE ON
    account, subscription, billing_period, credit_account, credit_grant, hold, hold_slice,
    api_key, key_budget, admin_user, audit_head TO cutout_app;
-- Forgotten when their time is over.
GRANT SELECT, INSERT, UPDATE, DELETE ON admin_session, invariant_run TO cutout_app;

REVOKE UPDATE, DELETE, TRUNCATE ON ledger_txn, ledger_entry, audit_event FROM PUBLIC, cutout_app;
