{% set days_to_answer = var('unify_days_to_answer') | int %}
with known as (
    -- Not the current time: a week does not mature while nothing is loaded.
    select max(updated_at) as known_until from {{ ref('int_enrollments') }}
),

dated as (
    select
        *,
        cast(date_trunc('week', started_at at time zone 'UTC') as date) as week
    from {{ ref('int_enrollments') }}
    where is_started
),

counted as (
    select
        week,
        {{ funnel_counts() }}
    from dated
    group by week
)

select
    week,
    -- is_young: replies are still to come, because fewer than 28 days (dbt's variable
    -- `unify_days_to_answer`), the length of a usual sequence, lie between the last day of the week
    -- and the newest change that was loaded.
    cast(week as timestamp) + interval '{{ 7 + days_to_answer }} days'
        > known.known_until at time zone 'UTC' as is_young,
    -- out_of_office_ends: out-of-office replies ended enrollments of this week; since April 2026
    -- they do not. Null for weeks with both, as the day of the change is not documented.
    case
        when cast(week as timestamp) + interval '{{ 7 + days_to_answer }} days'
            <= cast('2026-04-01' as timestamp) then true
        when week >= cast('2026-05-01' as date) then false
    end as out_of_office_ends,
    {{ funnel() }}
from counted
cross join known
