with differences as (
    {{ rows_of('unify_verify_differences', {
        'verify_id': 'text',
        'verified_at': 'timestamp with time zone',
        'table_name': 'text',
        'kind': 'text',
        'key': 'text',
        'day': 'date',
    }) }}
),

runs as (
    {{ rows_of('unify_sync_runs', {
        'id': 'text',
        'started_at': 'timestamp with time zone',
        'verdict': 'text',
        'window_from': 'timestamp with time zone',
        'window_to': 'timestamp with time zone',
    }) }}
),

comparisons as (
    select
        *,
        1 as one
    from runs
    -- One that could not write what it found closes nothing.
    where verdict = 'equal' or id in (select verify_id from differences)
),

found as (
    select
        d.table_name,
        d.kind,
        d.key,
        d.day,
        d.verified_at,
        c.window_from,
        c.window_to,
        -- A comparison that was killed has no verdict.
        coalesce(c.verdict, 'different') as verdict,
        coalesce(c.started_at, d.verified_at) as found_at,
        max(d.verified_at) over (partition by d.verify_id) as last_verified_at
    from differences as d
    left join comparisons as c on c.id = d.verify_id
),

ranked as (
    select
        *,
        rank() over (
            partition by table_name, key order by found_at desc, verified_at desc
        ) as place
    from found
),

-- A repair compares several times: what its last comparison did not find was repaired.
-- Counted by day before they are joined with each comparison: there may be millions of rows.
newest as (
    select
        table_name,
        kind,
        day,
        verified_at,
        found_at,
        window_from,
        window_to,
        1 as one,
        count(*) as row_count
    from ranked
    where place = 1 and verified_at = last_verified_at and verdict <> 'equal'
    group by table_name, kind, day, verified_at, found_at, window_from, window_to
),

-- A later comparison found the row equal, if its range contains the day of the row's `updated_at`
-- or all of the range in which the row was found to differ. Joined on a constant, because not
-- every database joins on inequalities.
compared as (
    select
        n.table_name,
        n.kind,
        n.verified_at,
        n.row_count,
        sum(
            case
                when c.started_at <= n.found_at then 0
                when (c.window_from is null or c.window_from <= n.window_from)
                    and c.window_to >= n.window_to then 1
                when (
                    c.window_from is null
                    or c.window_from at time zone 'UTC' <= cast(n.day as timestamp)
                ) and (
                    c.window_to >= n.verified_at
                    or c.window_to at time zone 'UTC' >= cast(n.day as timestamp) + interval '1 days'
                ) then 1
                else 0
            end
        ) as later
    from newest as n
    left join comparisons as c on c.one = n.one
    group by
        n.table_name,
        n.kind,
        n.day,
        n.verified_at,
        n.found_at,
        n.window_from,
        n.window_to,
        n.row_count
)

select
    table_name,
    kind,
    cast(sum(row_count) as bigint) as row_count,
    max(verified_at) as verified_at
from compared
where later = 0
group by table_name, kind
