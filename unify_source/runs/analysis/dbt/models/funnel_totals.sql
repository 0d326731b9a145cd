with counted as (
    select
        {{ funnel_counts() }}
    from {{ ref('fct_enrollments') }}
)

select
    {{ funnel() }}
from counted
