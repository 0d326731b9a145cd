with runs as (
    {{ rows_of('unify_sync_runs', {
        'id': 'text',
        'kind': 'text',
        'started_at': 'timestamp with time zone',
        'verdict': 'text',
        'differences': 'bigint',
    }) }}
),

ranked as (
    select
        *,
        row_number() over (order by started_at desc, id) as place
    from runs
    where verdict is not null
)

select
    started_at as verified_at,
    kind,
    verdict,
    differences
from ranked
where place = 1
