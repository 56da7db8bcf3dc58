-- What the database itself keeps true, and the three functions of the hot path.
--
-- Every change of a balance goes through ledger_post: it writes the transaction and its entries
-- and moves the projections (credit_account, credit_grant) by the very same amounts.
-- place_hold and capture_hold call it inside one statement each, because the account's row is
-- locked meanwhile: each round trip saved there is throughput of a busy account. All other rules
-- (expiry, periods, rollover, refunds) are Python, under the same lock.

-- Entries are for ever -------------------------------------------------------------------------

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
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

CREATE FUNCTION check_txn_sums_to_zero() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    total bigint;
BEGIN
    SELECT sum(amount) INTO total FROM ledger_entry WHERE txn_id = NEW.txn_id;
    IF total <> 0 THEN
        RAISE EXCEPTION 'entries of ledger_txn % sum to %, not 0', NEW.txn_id, total
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER ledger_entry_sums_to_zero AFTER INSERT ON ledger_entry
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION check_txn_sums_to_zero();

-- A hold leaves `held` once; a closed grant stays closed ---------------------------------------

CREATE FUNCTION check_hold_settles_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'held' THEN
        RAISE EXCEPTION 'hold % is %, for ever', OLD.job_id, OLD.state
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER hold_settles_once BEFORE UPDATE ON hold
    FOR EACH ROW EXECUTE FUNCTION check_hold_settles_once();

CREATE FUNCTION check_grant_is_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.account_id, NEW.source, NEW.amount, NEW.priority, NEW.effective_at)
        IS DISTINCT FROM
       (OLD.id, OLD.account_id, OLD.source, OLD.amount, OLD.priority, OLD.effective_at)
       OR NEW.expires_at IS DISTINCT FROM OLD.expires_at
       OR (OLD.closed_at IS NOT NULL AND NEW.closed_at IS DISTINCT FROM OLD.closed_at) THEN
        RAISE EXCEPTION 'grant % is immutable', OLD.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER credit_grant_immutable BEFORE UPDATE ON credit_grant
    FOR EACH ROW EXECUTE FUNCTION check_grant_is_immutable();

-- The chain ------------------------------------------------------------------------------------

CREATE FUNCTION ledger_hash(
    p_prev bytea, p_account uuid, p_seq bigint, p_op text, p_ref text, p_actor text, p_reason text,
    p_reverses bigint, p_at timestamptz, p_buckets text[], p_grants uuid[], p_amounts bigint[]
) RETURNS bytea LANGUAGE sql STABLE AS $$
    -- JSON, because it says where one field ends and the next begins.
    SELECT sha256(p_prev || convert_to(jsonb_build_array(
        p_account, p_seq, p_op, p_ref, p_actor, p_reason, p_reverses,
        (extract(epoch FROM p_at) * 1000000)::bigint, p_buckets, p_grants, p_amounts
    )::text, 'UTF8'))
$$;

-- The one writer -------------------------------------------------------------------------------

CREATE FUNCTION ledger_post(
    p_account uuid, p_op text, p_ref text, p_actor text, p_reason text, p_reverses bigint,
    p_at timestamptz, p_buckets text[], p_grants uuid[], p_amounts bigint[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    books credit_account;
    posted_id bigint;
    posted_hash bytea;
    d_available bigint := 0;
    d_held bigint := 0;
    d_consumed bigint := 0;
    d_expired bigint := 0;
BEGIN
    SELECT * INTO STRICT books FROM credit_account WHERE account_id = p_account FOR UPDATE;
    posted_hash := ledger_hash(
        books.last_hash, p_account, books.account_seq + 1, p_op, p_ref, p_actor, p_reason,
        p_reverses, p_at, p_buckets, p_grants, p_amounts);
    INSERT INTO ledger_txn (account_id, account_seq, op, ref, actor, reason, reverses,
                            effective_at, prev_hash, hash)
    VALUES (p_account, books.account_seq + 1, p_op, p_ref, p_actor, p_reason, p_reverses,
            p_at, books.last_hash, posted_hash)
    RETURNING id INTO posted_id;

    INSERT INTO ledger_entry (txn_id, line, bucket, grant_id, amount, balance_after)
    SELECT posted_id, line, bucket, grant_id, amount,
           sum(amount) OVER (PARTITION BY bucket ORDER BY line) + CASE bucket
               WHEN 'available' THEN books.available
               WHEN 'held' THEN books.held
               WHEN 'consumed' THEN books.consumed
               WHEN 'expired' THEN books.expired
               ELSE -(books.available + books.held + books.consumed + books.expired)
           END
    FROM unnest(p_buckets, p_grants, p_amounts) WITH ORDINALITY
        AS entry (bucket, grant_id, amount, line);

    FOR i IN 1 .. cardinality(p_amounts) LOOP
        CASE p_buckets[i]
            WHEN 'available' THEN d_available := d_available + p_amounts[i];
            WHEN 'held' THEN d_held := d_held + p_amounts[i];
            WHEN 'consumed' THEN d_consumed := d_consumed + p_amounts[i];
            WHEN 'expired' THEN d_expired := d_expired + p_amounts[i];
            ELSE NULL;  -- issued is what makes the sum zero; it has no column
        END CASE;
        IF p_grants[i] IS NOT NULL AND p_buckets[i] IN ('available', 'held') THEN
            UPDATE credit_grant SET
                remaining = remaining + CASE p_buckets[i] WHEN 'available' THEN p_amounts[i] ELSE 0 END,
                held = held + CASE p_buckets[i] WHEN 'held' THEN p_amounts[i] ELSE 0 END
            WHERE id = p_grants[i] AND account_id = p_account;
        END IF;
    END LOOP;

    UPDATE credit_account SET
        available = available + d_available,
        held = held + d_held,
        consumed = consumed + d_consumed,
        expired = expired + d_expired,
        account_seq = books.account_seq + 1,
        last_hash = posted_hash,
        advanced_at = greatest(advanced_at, p_at)
    WHERE account_id = p_account;
    RETURN posted_id;
END $$;

-- The hot path ---------------------------------------------------------------------------------

CREATE TYPE hold_outcome AS (
    status text,             -- 'done', or why not; nothing is written unless it is 'done'
    available bigint, held bigint, consumed bigint, expired bigint, credit_limit bigint,
    budget_left bigint       -- of the key, where it has a budget
);

CREATE FUNCTION hold_outcome_for(p_status text, p_account uuid, p_budget_left bigint DEFAULT NULL)
RETURNS hold_outcome LANGUAGE sql STABLE AS $$
    SELECT p_status, available, held, consumed, expired, credit_limit, p_budget_left
    FROM credit_account WHERE account_id = p_account
$$;

CREATE FUNCTION place_hold(
    p_account uuid, p_job uuid, p_amount bigint, p_concurrency_max bigint, p_api_key uuid,
    p_at timestamptz
) RETURNS hold_outcome LANGUAGE plpgsql AS $$
DECLARE
    books credit_account;
    account_status text;
    moment timestamptz;
    key_budget_credits bigint;
    key_period timestamptz;
    key_used bigint;
    wanted bigint := p_amount;
    payer record;
    payers uuid[] := '{}';
    parts bigint[] := '{}';
BEGIN
    SELECT * INTO books FROM credit_account WHERE account_id = p_account FOR UPDATE;
    IF NOT FOUND THEN
        RETURN ROW('unknown', 0, 0, 0, 0, 0, NULL)::hold_outcome;
    END IF;
    moment := greatest(coalesce(p_at, clock_timestamp()), books.advanced_at);
    IF books.next_due_at <= moment THEN
        RETURN hold_outcome_for('due', p_account);
    END IF;
    PERFORM 1 FROM hold WHERE job_id = p_job;
    IF FOUND THEN
        RETURN hold_outcome_for('duplicate', p_account);
    END IF;
    SELECT status INTO account_status FROM account WHERE id = p_account;
    IF account_status <> 'active' THEN
        RETURN hold_outcome_for(account_status, p_account);
    END IF;
    IF books.open_holds >= p_concurrency_max THEN
        RETURN hold_outcome_for('too_many', p_account);
    END IF;
    IF books.available + books.credit_limit < p_amount THEN
        RETURN hold_outcome_for('insufficient', p_account);
    END IF;

    IF p_api_key IS NOT NULL AND p_amount > 0 THEN
        -- Exact, because whoever holds for this account holds its mutex now.
        SELECT k.budget_credits, s.period_start, coalesce(b.used, 0)
        INTO key_budget_credits, key_period, key_used
        FROM api_key k
        JOIN subscription s ON s.account_id = k.account_id AND s.ended_at IS NULL
        LEFT JOIN key_budget b ON b.api_key_id = k.id AND b.period_start = s.period_start
        WHERE k.id = p_api_key AND k.account_id = p_account AND k.budget_credits IS NOT NULL;
        IF FOUND THEN
            IF key_used + p_amount > key_budget_credits THEN
                RETURN hold_outcome_for('over_budget', p_account, key_budget_credits - key_used);
            END IF;
            INSERT INTO key_budget (api_key_id, period_start, used)
            VALUES (p_api_key, key_period, p_amount)
            ON CONFLICT (api_key_id, period_start) DO UPDATE SET used = key_budget.used + p_amount;
        END IF;
    END IF;

    FOR payer IN
        SELECT id, remaining FROM credit_grant
        WHERE account_id = p_account AND closed_at IS NULL AND remaining > 0
        -- The burn-down, as in billing/burndown.py.
        ORDER BY priority, expires_at NULLS LAST, effective_at, id
    LOOP
        EXIT WHEN wanted = 0;
        payers := payers || payer.id;
        parts := parts || least(wanted, payer.remaining);
        wanted := wanted - least(wanted, payer.remaining);
    END LOOP;
    IF wanted > 0 THEN  -- the rest is drawn on the credit limit
        payers := payers || NULL::uuid;
        parts := parts || wanted;
    END IF;

    INSERT INTO hold (job_id, account_id, api_key_id, amount, placed_at)
    VALUES (p_job, p_account, p_api_key, p_amount, moment);
    UPDATE credit_account SET open_holds = open_holds + 1, advanced_at = moment
    WHERE account_id = p_account;
    IF p_amount > 0 THEN
        INSERT INTO hold_slice (job_id, line, grant_id, amount)
        SELECT p_job, line, grant_id, amount
        FROM unnest(payers, parts) WITH ORDINALITY AS slice (grant_id, amount, line);
        PERFORM ledger_post(
            p_account, 'hold', p_job::text, 'gateway', '', NULL, moment,
            array_fill('available'::text, ARRAY[cardinality(parts)])
                || array_fill('held'::text, ARRAY[cardinality(parts)]),
            payers || payers,
            (SELECT array_agg(-part ORDER BY n) FROM unnest(parts) WITH ORDINALITY AS p (part, n))
                || parts);
    END IF;
    RETURN hold_outcome_for('done', p_account);
END $$;

CREATE FUNCTION capture_hold(p_job uuid, p_at timestamptz) RETURNS hold_outcome
LANGUAGE plpgsql AS $$
DECLARE
    placed hold;
    books credit_account;
    moment timestamptz;
    payers uuid[];
    parts bigint[];
    txn bigint;
BEGIN
    SELECT * INTO placed FROM hold WHERE job_id = p_job FOR UPDATE;
    IF NOT FOUND THEN
        RETURN ROW('missing', 0, 0, 0, 0, 0, NULL)::hold_outcome;
    END IF;
    IF placed.state <> 'held' THEN
        RETURN hold_outcome_for(placed.state, placed.account_id);
    END IF;
    SELECT * INTO STRICT books FROM credit_account
    WHERE account_id = placed.account_id FOR UPDATE;
    moment := greatest(coalesce(p_at, clock_timestamp()), books.advanced_at);
    IF books.next_due_at <= moment THEN
        RETURN hold_outcome_for('due', placed.account_id);
    END IF;
    IF placed.amount > 0 THEN
        SELECT array_agg(grant_id ORDER BY line), array_agg(amount ORDER BY line)
        INTO payers, parts FROM hold_slice WHERE job_id = p_job;
        txn := ledger_post(
            placed.account_id, 'capture', p_job::text, 'gateway', '', NULL, moment,
            array_fill('held'::text, ARRAY[cardinality(parts)])
                || array_fill('consumed'::text, ARRAY[cardinality(parts)]),
            payers || payers,
            (SELECT array_agg(-part ORDER BY n) FROM unnest(parts) WITH ORDINALITY AS p (part, n))
                || parts);
    END IF;
    UPDATE hold SET state = 'captured', txn_id = txn, settled_at = moment WHERE job_id = p_job;
    UPDATE credit_account SET open_holds = open_holds - 1, advanced_at = moment
    WHERE account_id = placed.account_id;
    RETURN hold_outcome_for('done', placed.account_id);
END $$;
