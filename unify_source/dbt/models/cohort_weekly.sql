{% set days_to_answer = var('unify_days_to_answer') | int %}
with known as (
    -- Not the clock's now: a week does not grow ripe while nothing is loaded.
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
    -- is_young: replies are still to come: since the last day of the week fewer than 28 days have
    -- passed (dbt's variable `unify_days_to_answer`), the length of a usual sequence. Counted up to
    -- the newest change that was loaded.
    cast(week as timestamp) + interval '{{ 7 + days_to_answer }} days'
        > known.known_until at time zone 'UTC' as is_young,
    -- out_of_office_ends: an out-of-office reply ended enrollments of this week; since
    -- April 2026 it does not. Null for weeks that saw both; the day of the change is not documented.
    case
        when cast(week as timestamp) + interval '{{ 7 + days_to_answer }} days'
            <= cast('2026-04-01' as timestamp) then true
        when week >= cast('2026-05-01' as date) then false
    end as out_of_office_ends,
    {{ funnel() }}
from counted
cross join known
