with differences as (
    {{ rows_of('unify_verify_differences', {
        'verified_at': 'timestamp with time zone',
        'table_name': 'text',
        'kind': 'text',
    }) }}
),

newest as (
    select max(verified_at) as verified_at from differences
),

last_verdict as (
    select coalesce(max(verdict), 'different') as verdict from {{ ref('last_verify') }}
)

select
    d.table_name as table_name,
    d.kind as kind,
    count(*) as row_count,
    max(d.verified_at) as verified_at
from differences as d
inner join newest on newest.verified_at = d.verified_at
-- The table keeps the differences of every verify, even those that were repaired.
cross join last_verdict
where last_verdict.verdict <> 'equal'
group by d.table_name, d.kind
