-- A hold and a capture, row for row what they wrote before, in half the time. Measured, in the order
-- of what it saved:
--
-- * Postgres planned most of these statements anew at every call: for an array whose length it sees
--   it expects fewer rows than for any array, so the plan that is kept never looks as cheap. Each
--   has one good plan, by a key, whatever it is called with; plan_cache_mode says so, inside the
--   function that names it and what that calls, and nowhere else. A kept plan knows no account: it
--   may be made while a table has a row, and be used for the account that has most of a large one.
--   So tables are not read whole (enable_seqscan; where there is hardly a row the key's index may
--   be, until ANALYZE, which has all planned anew), and the grants that pay are read in the order
--   of their index, no further than needed, not all collected and sorted (enable_bitmapscan).
-- * What one operation writes is one statement. So place_hold and capture_hold write their entries
--   themselves and have their owner's rights, as ledger_post has, which posts all that is rarer.
-- * That the lines sum to zero is looked at once a statement.

-- Every transaction sums to zero ---------------------------------------------------------------

-- No weaker than a look at commit: a transaction begins without lines, and a statement gets through
-- only if what it adds to each transaction sums to zero.
CREATE FUNCTION check_written_sums_to_zero() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    uneven bigint;
BEGIN
    SELECT txn_id INTO uneven FROM written GROUP BY txn_id HAVING sum(amount) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entries of ledger_txn % do not sum to 0', uneven
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER ledger_entry_sums_to_zero ON ledger_entry;
CREATE TRIGGER ledger_entry_sums_to_zero AFTER INSERT ON ledger_entry
    REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION check_written_sums_to_zero();

-- All that is rarer ----------------------------------------------------------------------------

ALTER FUNCTION ledger_post SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION ledger_post SET enable_seqscan = off;

-- Hold -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION place_hold(
    p_account uuid, p_job uuid, p_amount bigint, p_concurrency_max bigint, p_api_key uuid,
    p_at timestamptz
) RETURNS hold_outcome LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
SET enable_bitmapscan = off AS $$
DECLARE
    books credit_account;
    account_status text;
    refusal text;
    moment timestamptz;
    budget bigint;
    budget_left bigint;
    budget_period timestamptz;
    budget_key uuid;  -- the first of its rotations: what it was rotated to spends the same budget
    wanted bigint := p_amount;
    part bigint;
    payer record;
    payers uuid[] := '{}';
    parts bigint[] := '{}';
    minus_parts bigint[] := '{}';
    froms text[] := '{}';
    tos text[] := '{}';
    froms_after bigint[] := '{}';
    tos_after bigint[] := '{}';
    seq bigint;
    posted_hash bytea;
BEGIN
    SELECT * INTO books FROM credit_account WHERE account_id = p_account FOR UPDATE;
    -- Only now: what was decided while we waited for the lock has to be seen.
    SELECT status, (SELECT budget_credits FROM api_key
                    WHERE id = p_api_key AND account_id = p_account)
    INTO account_status, budget FROM account WHERE id = p_account;
    moment := greatest(coalesce(p_at, clock_timestamp()), books.advanced_at);
    refusal := CASE
        WHEN books.account_id IS NULL THEN 'unknown'
        WHEN books.next_due_at <= moment THEN 'due'
        WHEN account_status <> 'active' THEN account_status
        WHEN books.open_holds >= p_concurrency_max THEN 'too_many'
        WHEN books.available + books.credit_limit < p_amount THEN 'insufficient'
    END;
    IF refusal IS NULL AND budget IS NOT NULL AND p_amount > 0 THEN
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
    IF refusal IS NOT NULL THEN
        IF refusal <> 'due' AND EXISTS (SELECT FROM hold WHERE job_id = p_job) THEN
            refusal := 'duplicate';  -- whatever else is wrong, it was done
        END IF;
        RETURN ROW(refusal, books.available, books.held, books.consumed, books.expired,
                   books.credit_limit, budget_left)::hold_outcome;
    END IF;

    IF p_amount = 0 THEN
        INSERT INTO hold (job_id, account_id, api_key_id, amount, placed_at)
        VALUES (p_job, p_account, p_api_key, p_amount, moment)
        ON CONFLICT (job_id) DO NOTHING;
        IF FOUND THEN
            UPDATE credit_account SET open_holds = open_holds + 1, advanced_at = moment
            WHERE account_id = p_account;
            RETURN ROW('done', books.available, books.held, books.consumed, books.expired,
                       books.credit_limit, NULL)::hold_outcome;
        END IF;
        RETURN ROW('duplicate', books.available, books.held, books.consumed, books.expired,
                   books.credit_limit, NULL)::hold_outcome;
    END IF;

    FOR payer IN
        SELECT id, remaining FROM credit_grant
        WHERE account_id = p_account AND closed_at IS NULL AND remaining > 0
        -- The burn-down, as in billing/burndown.py.
        ORDER BY priority, expires_at NULLS LAST, effective_at, credit_grant.seq
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
    FOREACH part IN ARRAY parts LOOP
        minus_parts := minus_parts || -part;
        froms := froms || 'available'::text;
        tos := tos || 'held'::text;
        books.available := books.available - part;
        books.held := books.held + part;
        froms_after := froms_after || books.available;
        tos_after := tos_after || books.held;
    END LOOP;
    seq := books.account_seq + 1;
    posted_hash := ledger_hash(
        books.last_hash, p_account, seq, 'hold', p_job::text, 'gateway', '', NULL, moment,
        froms || tos, payers || payers, minus_parts || parts);

    WITH placed AS (
        INSERT INTO hold (job_id, account_id, api_key_id, amount, placed_at)
        VALUES (p_job, p_account, p_api_key, p_amount, moment)
        ON CONFLICT (job_id) DO NOTHING  -- and then none of the rest is written
        RETURNING job_id
    ), sliced AS (
        INSERT INTO hold_slice (job_id, line, grant_id, amount)
        SELECT job_id, line, grant_id, amount
        FROM placed, unnest(payers, parts) WITH ORDINALITY AS slice (grant_id, amount, line)
    ), booked AS (
        UPDATE credit_account c SET
            available = books.available,
            held = books.held,
            open_holds = books.open_holds + 1,
            account_seq = seq,
            last_hash = posted_hash,
            advanced_at = moment
        FROM placed WHERE c.account_id = p_account
    ), paid AS (
        UPDATE credit_grant g SET
            remaining = g.remaining - slice.amount,
            held = g.held + slice.amount
        FROM placed, unnest(payers, parts) AS slice (grant_id, amount)
        WHERE g.id = slice.grant_id
    ), txn AS (
        INSERT INTO ledger_txn (account_id, account_seq, op, ref, actor, reason, effective_at,
                                prev_hash, hash)
        SELECT p_account, seq, 'hold', p_job, 'gateway', '', moment, books.last_hash, posted_hash
        FROM placed
        RETURNING id
    )
    INSERT INTO ledger_entry (txn_id, line, bucket, grant_id, amount, balance_after)
    SELECT id, line, bucket::bucket, grant_id, amount, balance_after
    FROM txn, unnest(froms || tos, payers || payers, minus_parts || parts,
                     froms_after || tos_after) WITH ORDINALITY
        AS entry (bucket, grant_id, amount, balance_after, line);
    IF NOT FOUND THEN
        RETURN ROW('duplicate', books.available + p_amount, books.held - p_amount, books.consumed,
                   books.expired, books.credit_limit, budget_left)::hold_outcome;
    END IF;
    IF budget_left IS NOT NULL THEN
        INSERT INTO key_budget (api_key_id, period_start, used)
        VALUES (budget_key, budget_period, p_amount)
        ON CONFLICT (api_key_id, period_start) DO UPDATE SET used = key_budget.used + p_amount;
    END IF;
    RETURN ROW('done', books.available, books.held, books.consumed, books.expired,
               books.credit_limit, NULL)::hold_outcome;
END $$;

-- Capture --------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION capture_hold(p_job uuid, p_at timestamptz) RETURNS hold_outcome
LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
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
    froms_after bigint[] := '{}';
    tos_after bigint[] := '{}';
    seq bigint;
    posted_hash bytea;
    payers_named bigint;
    payers_known bigint;
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
        UPDATE hold SET state = 'captured', settled_at = moment WHERE job_id = p_job;
        RETURN ROW('done', books.available, books.held, books.consumed, books.expired,
                   books.credit_limit, NULL)::hold_outcome;
    END IF;

    FOR slice IN SELECT grant_id, amount FROM hold_slice WHERE job_id = p_job ORDER BY line
    LOOP
        payers := payers || slice.grant_id;
        parts := parts || slice.amount;
        minus_parts := minus_parts || -slice.amount;
        froms := froms || 'held'::text;
        tos := tos || 'consumed'::text;
        books.held := books.held - slice.amount;
        books.consumed := books.consumed + slice.amount;
        froms_after := froms_after || books.held;
        tos_after := tos_after || books.consumed;
    END LOOP;
    seq := books.account_seq + 1;
    posted_hash := ledger_hash(
        books.last_hash, placed.account_id, seq, 'capture', p_job::text, 'gateway', '', NULL,
        moment, froms || tos, payers || payers, minus_parts || parts);

    WITH booked AS (
        UPDATE credit_account SET
            held = books.held,
            consumed = books.consumed,
            open_holds = books.open_holds - 1,
            account_seq = seq,
            last_hash = posted_hash,
            advanced_at = moment
        WHERE account_id = placed.account_id
    ), named AS (  -- two slices may be of one grant
        SELECT grant_id, sum(amount) AS amount
        FROM unnest(payers, parts) AS slice (grant_id, amount)
        WHERE grant_id IS NOT NULL
        GROUP BY grant_id
    ), paid AS (
        UPDATE credit_grant g SET held = g.held - named.amount
        FROM named WHERE g.id = named.grant_id AND g.account_id = placed.account_id
        RETURNING g.id
    ), txn AS (
        INSERT INTO ledger_txn (account_id, account_seq, op, ref, actor, reason, effective_at,
                                prev_hash, hash)
        VALUES (placed.account_id, seq, 'capture', p_job, 'gateway', '', moment, books.last_hash,
                posted_hash)
        RETURNING id
    ), posted AS (
        INSERT INTO ledger_entry (txn_id, line, bucket, grant_id, amount, balance_after)
        SELECT id, line, bucket::bucket, grant_id, amount, balance_after
        FROM txn, unnest(froms || tos, payers || payers, minus_parts || parts,
                         froms_after || tos_after) WITH ORDINALITY
            AS entry (bucket, grant_id, amount, balance_after, line)
    ), settled AS (
        UPDATE hold SET state = 'captured', txn_id = txn.id, settled_at = moment
        FROM txn WHERE job_id = p_job
    )
    SELECT (SELECT count(*) FROM named), (SELECT count(*) FROM paid)
    INTO payers_named, payers_known;
    -- In the place of foreign keys, which would look each of them up once more.
    IF payers_known <> payers_named THEN
        RAISE EXCEPTION 'a grant is not of account %', placed.account_id
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN ROW('done', books.available, books.held, books.consumed, books.expired,
               books.credit_limit, NULL)::hold_outcome;
END $$;

-- Postgres lets everybody call a new function.
REVOKE EXECUTE ON FUNCTION check_written_sums_to_zero FROM PUBLIC;
