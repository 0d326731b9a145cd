with counted as (
    select
        play_id,
        play_name,
        -- In the API's older form there is neither a status nor a play: who enrolled is unknown.
        play_id is null and status is null as is_unknown,
        count(distinct person_id) as people,
        {{ funnel_counts() }}
    from {{ ref('fct_enrollments') }}
    group by play_id, play_name, play_id is null and status is null
)

select
    play_id,
    case when is_unknown then null else coalesce(play_name, '(no play)') end as play_name,
    people,
    {{ funnel() }}
from counted
