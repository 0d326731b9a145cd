with counted as (
    select
        s.id as sequence_id,
        s.name as sequence_name,
        s.is_paused,
        {{ funnel_counts() }}
    from {{ source('unify', 'sequences') }} as s
    left join {{ ref('fct_enrollments') }} as e on e.sequence_id = s.id
    group by s.id, s.name, s.is_paused
)

select
    sequence_id,
    sequence_name,
    is_paused,
    {{ funnel() }}
from counted
