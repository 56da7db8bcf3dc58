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
-- Written by ledger_post alone, which runs with the rights of its owner.
GRANT SELECT ON ledger_txn, ledger_entry TO cutout_app;
-- Written once.
GRANT SELECT, INSERT ON plan, plan_version, audit_event TO cutout_app;
-- Written, and moved on.
GRANT SELECT, INSERT, UPDATE ON
    account, subscription, billing_period, hold, hold_slice, api_key, key_budget, admin_user,
    audit_head TO cutout_app;
-- Of these, what the ledger reckons is not the application's to set.
GRANT SELECT ON credit_account, credit_grant TO cutout_app;
GRANT INSERT (account_id, credit_limit, advanced_at, next_due_at),
      UPDATE (credit_limit, open_holds, advanced_at, next_due_at) ON credit_account TO cutout_app;
GRANT INSERT (id, account_id, source, ref, parent_id, generation, amount, priority, period_start,
              effective_at, expires_at, activated_at, closed_at, closed_reason, actor, reason),
      UPDATE (activated_at, closed_at, closed_reason) ON credit_grant TO cutout_app;
-- Forgotten when their time is over.
GRANT SELECT, INSERT, UPDATE, DELETE ON admin_session, invariant_run TO cutout_app;

REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ledger_txn, ledger_entry FROM PUBLIC, cutout_app;
REVOKE UPDATE, DELETE, TRUNCATE ON audit_event FROM PUBLIC, cutout_app;

-- Postgres lets everybody call a new function, and ledger_post writes with its owner's rights.
REVOKE EXECUTE ON FUNCTION
    refuse_change, check_txn_sums_to_zero, ledger_hash, ledger_post, place_hold, capture_hold
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger_hash, ledger_post, place_hold, capture_hold TO cutout_app;

-- Nobody but the owner needs tables of his own beside these. A database that is somebody else's
-- keeps its rights; the functions do not look there.
DO $$
BEGIN
    IF (SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database())
    THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    END IF;
END $$;
