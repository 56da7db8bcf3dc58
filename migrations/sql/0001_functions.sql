-- What the database itself keeps true, and the three functions of the hot path.
--
-- Every change of a balance goes through ledger_post: it writes the transaction and its entries
-- and moves the projections (credit_account, credit_grant) by the very same amounts.
-- place_hold and capture_hold call it inside one statement each, because the account's row is
-- locked meanwhile: each round trip saved there is throughput of a busy account. All other rules
-- (expiry, periods, rollover, refunds) are Python, under the same lock.
--
-- Every function names its search_path: a caller's temporary table must not be taken for ours.

-- Entries are for ever -------------------------------------------------------------------------

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '%: % refused, what was written stays', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER ledger_txn_append_only BEFORE UPDATE OR DELETE ON ledger_txn
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_txn_no_truncate BEFORE TRUNCATE ON ledger_txn
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_entry_append_only BEFORE UPDATE OR DELETE ON ledger_entry
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_entry_no_truncate BEFORE TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE ON audit_event
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER plan_version_immutable BEFORE UPDATE OR DELETE ON plan_version
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Every transaction sums to zero ---------------------------------------------------------------

CREATE FUNCTION check_txn_sums_to_zero() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    IF (SELECT sum(amount) FROM ledger_entry WHERE txn_id = NEW.txn_id) IS DISTINCT FROM 0 THEN
        RAISE EXCEPTION 'entries of ledger_txn % do not sum to 0', NEW.txn_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER ledger_entry_sums_to_zero AFTER INSERT ON ledger_entry
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_txn_sums_to_zero();

-- A hold leaves `held` once; what a grant is does not change -----------------------------------

-- By column, so that statements which leave these columns alone do not pay for the look.
CREATE TRIGGER hold_settles_once BEFORE UPDATE OF state ON hold
    FOR EACH ROW WHEN (OLD.state <> 'held') EXECUTE FUNCTION refuse_change();
CREATE TRIGGER hold_immutable BEFORE UPDATE OF job_id, account_id, amount, placed_at ON hold
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER credit_grant_closes_once BEFORE UPDATE OF closed_at, closed_reason ON credit_grant
    FOR EACH ROW WHEN (OLD.closed_at IS NOT NULL) EXECUTE FUNCTION refuse_change();
CREATE TRIGGER credit_grant_immutable BEFORE UPDATE OF
    id, seq, account_id, source, ref, parent_id, generation, amount, priority, period_start,
    effective_at, expires_at ON credit_grant
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- The chain ------------------------------------------------------------------------------------

CREATE FUNCTION ledger_hash(
    p_prev bytea, p_account uuid, p_seq bigint, p_op text, p_ref text, p_actor text, p_reason text,
    p_reverses bigint, p_at timestamptz, p_buckets text[], p_grants uuid[], p_amounts bigint[]
) RETURNS bytea LANGUAGE sql STABLE
SET search_path = public, pg_temp AS $$
    -- JSON, because it says where one field ends and the next begins.
    SELECT sha256(p_prev || convert_to(jsonb_build_array(
        p_account, p_seq, p_op, p_ref, p_actor, p_reason, p_reverses,
        (extract(epoch FROM p_at) * 1000000)::bigint, p_buckets, p_grants, p_amounts
    )::text, 'UTF8'))
$$;

-- The one writer -------------------------------------------------------------------------------

CREATE FUNCTION ledger_post(
    p_account uuid, p_op text, p_ref text, p_actor text, p_reason text, p_reverses bigint,
    p_at timestamptz, p_buckets text[], p_grants uuid[], p_amounts bigint[],
    p_open_holds int DEFAULT 0
) RETURNS bigint LANGUAGE plpgsql
-- The application may not write these tables itself, only through here.
SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
    books credit_account;
    posted_id bigint;
    posted_hash bytea;
    issued bigint;
    balances bigint[] := '{}';
    payers_known int;
BEGIN
    SELECT * INTO STRICT books FROM credit_account WHERE account_id = p_account FOR UPDATE;
    posted_hash := ledger_hash(
        books.last_hash, p_account, books.account_seq + 1, p_op, p_ref, p_actor, p_reason,
        p_reverses, p_at, p_buckets, p_grants, p_amounts);
    issued := -(books.available + books.held + books.consumed + books.expired);
    FOR i IN 1 .. cardinality(p_amounts) LOOP
        CASE p_buckets[i]
            WHEN 'available' THEN
                books.available := books.available + p_amounts[i];
                balances := balances || books.available;
            WHEN 'held' THEN
                books.held := books.held + p_amounts[i];
                balances := balances || books.held;
            WHEN 'consumed' THEN
                books.consumed := books.consumed + p_amounts[i];
                balances := balances || books.consumed;
            WHEN 'expired' THEN
                books.expired := books.expired + p_amounts[i];
                balances := balances || books.expired;
            WHEN 'issued' THEN
                issued := issued + p_amounts[i];
                balances := balances || issued;
        END CASE;
    END LOOP;

    UPDATE credit_account SET
        available = books.available,
        held = books.held,
        consumed = books.consumed,
        expired = books.expired,
        open_holds = books.open_holds + p_open_holds,
        account_seq = books.account_seq + 1,
        last_hash = posted_hash,
        advanced_at = greatest(books.advanced_at, p_at)
    WHERE account_id = p_account;
    UPDATE credit_grant g SET
        remaining = g.remaining + moved.available,
        held = g.held + moved.held
    FROM (
        SELECT grant_id,
               coalesce(sum(amount) FILTER (WHERE bucket = 'available'), 0) AS available,
               coalesce(sum(amount) FILTER (WHERE bucket = 'held'), 0) AS held
        FROM unnest(p_buckets, p_grants, p_amounts) AS entry (bucket, grant_id, amount)
        WHERE grant_id IS NOT NULL
        GROUP BY grant_id
    ) moved
    WHERE g.id = moved.grant_id AND g.account_id = p_account;
    -- In the place of foreign keys, which would look each of them up once more.
    GET DIAGNOSTICS payers_known = ROW_COUNT;
    IF payers_known <> (SELECT count(DISTINCT grant_id) FROM unnest(p_grants) AS grant_id) THEN
        RAISE EXCEPTION 'a grant is not of account %', p_account
            USING ERRCODE = 'foreign_key_violation';
    END IF;

    INSERT INTO ledger_txn (account_id, account_seq, op, ref, actor, reason, reverses,
                            effective_at, prev_hash, hash)
    VALUES (p_account, books.account_seq + 1, p_op::ledger_op, p_ref, p_actor, p_reason, p_reverses,
            p_at, books.last_hash, posted_hash)
    RETURNING id INTO posted_id;
    INSERT INTO ledger_entry (txn_id, line, bucket, grant_id, amount, balance_after)
    SELECT posted_id, line, bucket::bucket, grant_id, amount, balance_after
    FROM unnest(p_buckets, p_grants, p_amounts, balances) WITH ORDINALITY
        AS entry (bucket, grant_id, amount, balance_after, line);
    RETURN posted_id;
END $$;

-- The hot path ---------------------------------------------------------------------------------

CREATE TYPE hold_outcome AS (
    status text,             -- 'done', or why not; nothing is written unless it is 'done'
    available bigint, held bigint, consumed bigint, expired bigint, credit_limit bigint,
    budget_left bigint       -- of the key, where it is the budget that does not suffice
);

CREATE FUNCTION place_hold(
    p_account uuid, p_job uuid, p_amount bigint, p_concurrency_max bigint, p_api_key uuid,
    p_at timestamptz
) RETURNS hold_outcome LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    books credit_account;
    account_status text;
    refusal text;
    moment timestamptz;
    budget_left bigint;
    budget_period timestamptz;
    budget_key uuid;  -- the first of its rotations: what it was rotated to spends the same budget
    wanted bigint := p_amount;
    payer record;
    payers uuid[] := '{}';
    parts bigint[] := '{}';
    minus_parts bigint[] := '{}';
    froms text[] := '{}';
    tos text[] := '{}';
BEGIN
    SELECT * INTO books FROM credit_account WHERE account_id = p_account FOR UPDATE;
    SELECT status INTO account_status FROM account WHERE id = p_account;
    moment := greatest(coalesce(p_at, clock_timestamp()), books.advanced_at);
    refusal := CASE
        WHEN books.account_id IS NULL THEN 'unknown'
        WHEN books.next_due_at <= moment THEN 'due'
        WHEN account_status <> 'active' THEN account_status
        WHEN books.open_holds >= p_concurrency_max THEN 'too_many'
        WHEN books.available + books.credit_limit < p_amount THEN 'insufficient'
    END;
    IF refusal IS NULL AND p_api_key IS NOT NULL AND p_amount > 0 THEN
        -- Exact, because whoever holds for this account holds its mutex now.
        SELECT k.budget_credits - coalesce(b.used, 0), s.period_start, coalesce(k.root_id, k.id)
        INTO budget_left, budget_period, budget_key
        FROM api_key k
        JOIN subscription s ON s.account_id = k.account_id AND s.ended_at IS NULL
        LEFT JOIN key_budget b ON b.api_key_id = coalesce(k.root_id, k.id)
            AND b.period_start = s.period_start
        WHERE k.id = p_api_key AND k.account_id = p_account AND k.budget_credits IS NOT NULL;
        IF budget_left < p_amount THEN
            refusal := 'over_budget';
        END IF;
    END IF;
    IF refusal IS NULL THEN
        INSERT INTO hold (job_id, account_id, api_key_id, amount, placed_at)
        VALUES (p_job, p_account, p_api_key, p_amount, moment)
        ON CONFLICT (job_id) DO NOTHING;
        IF NOT FOUND THEN
            refusal := 'duplicate';
        END IF;
    ELSIF refusal <> 'due' AND EXISTS (SELECT FROM hold WHERE job_id = p_job) THEN
        refusal := 'duplicate';  -- whatever else is wrong, it was done
    END IF;
    IF refusal IS NOT NULL THEN
        RETURN ROW(refusal, books.available, books.held, books.consumed, books.expired,
                   books.credit_limit, budget_left)::hold_outcome;
    END IF;

    IF budget_left IS NOT NULL THEN
        INSERT INTO key_budget (api_key_id, period_start, used)
        VALUES (budget_key, budget_period, p_amount)
        ON CONFLICT (api_key_id, period_start) DO UPDATE SET used = key_budget.used + p_amount;
    END IF;
    IF p_amount = 0 THEN
        UPDATE credit_account SET open_holds = open_holds + 1, advanced_at = moment
        WHERE account_id = p_account;
    ELSE
        FOR payer IN
            SELECT id, remaining FROM credit_grant
            WHERE account_id = p_account AND closed_at IS NULL AND remaining > 0
            -- The burn-down, as in billing/burndown.py.
            ORDER BY priority, expires_at NULLS LAST, effective_at, seq
        LOOP
            payers := payers || payer.id;
            parts := parts || least(wanted, payer.remaining);
            wanted := wanted - least(wanted, payer.remaining);
            EXIT WHEN wanted = 0;
        END LOOP;
        IF wanted > 0 THEN  -- the rest is drawn on the credit limit
            payers := payers || NULL::uuid;
            parts := parts || wanted;
        END IF;
        FOR i IN 1 .. cardinality(parts) LOOP
            minus_parts := minus_parts || -parts[i];
            froms := froms || 'available'::text;
            tos := tos || 'held'::text;
        END LOOP;
        INSERT INTO hold_slice (job_id, line, grant_id, amount)
        SELECT p_job, line, grant_id, amount
        FROM unnest(payers, parts) WITH ORDINALITY AS slice (grant_id, amount, line);
        PERFORM ledger_post(
            p_account, 'hold', p_job::text, 'gateway', '', NULL, moment,
            froms || tos, payers || payers, minus_parts || parts, 1);
    END IF;
    RETURN ROW('done', books.available - p_amount, books.held + p_amount, books.consumed,
               books.expired, books.credit_limit, NULL)::hold_outcome;
END $$;

CREATE FUNCTION capture_hold(p_job uuid, p_at timestamptz) RETURNS hold_outcome LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
    placed hold;
    books credit_account;
    moment timestamptz;
    slice record;
    payers uuid[] := '{}';
    parts bigint[] := '{}';
    minus_parts bigint[] := '{}';
    froms text[] := '{}';
    tos text[] := '{}';
    txn bigint;
BEGIN
    -- Not FOR UPDATE: who has the account may be adding a slice to this hold, which refers to it.
    SELECT * INTO placed FROM hold WHERE job_id = p_job FOR NO KEY UPDATE;
    IF NOT FOUND OR placed.state <> 'held' THEN
        RETURN ROW(coalesce(placed.state::text, 'missing'), 0, 0, 0, 0, 0, NULL)::hold_outcome;
    END IF;
    SELECT * INTO STRICT books FROM credit_account
    WHERE account_id = placed.account_id FOR UPDATE;
    moment := greatest(coalesce(p_at, clock_timestamp()), books.advanced_at);
    IF books.next_due_at <= moment THEN
        RETURN ROW('due', 0, 0, 0, 0, 0, NULL)::hold_outcome;
    END IF;
    IF placed.amount = 0 THEN
        UPDATE credit_account SET open_holds = open_holds - 1, advanced_at = moment
        WHERE account_id = placed.account_id;
    ELSE
        FOR slice IN SELECT grant_id, amount FROM hold_slice WHERE job_id = p_job ORDER BY line
        LOOP
            payers := payers || slice.grant_id;
            parts := parts || slice.amount;
            minus_parts := minus_parts || -slice.amount;
            froms := froms || 'held'::text;
            tos := tos || 'consumed'::text;
        END LOOP;
        txn := ledger_post(
            placed.account_id, 'capture', p_job::text, 'gateway', '', NULL, moment,
            froms || tos, payers || payers, minus_parts || parts, -1);
    END IF;
    UPDATE hold SET state = 'captured', txn_id = txn, settled_at = moment WHERE job_id = p_job;
    RETURN ROW('done', books.available, books.held - placed.amount,
               books.consumed + placed.amount, books.expired, books.credit_limit,
               NULL)::hold_outcome;
END $$;
