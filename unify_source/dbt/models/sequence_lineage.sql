with journeys as (
    select
        lineage,
        min(enrollment_id) as enrollment_id,
        count(*) as enrollments,
        {{ how_many('is_upgrade') }} as upgrades,
        {{ how_many('is_started') }} > 0 as is_started,
        {{ how_many('is_delivered') }} > 0 as is_delivered,
        {{ how_many('is_delivered') }} = 0 as is_bounced,
        {{ how_many('is_delivered and has_reply') }} > 0 as has_reply,
        {{ how_many('is_delivered and is_human_reply') }} > 0 as is_human_reply,
        {{ how_many('is_delivered and is_positive_reply') }} > 0 as is_positive_reply,
        {{ how_many('is_delivered and is_automated_reply') }} > 0 as is_automated_reply,
        {{ how_many('is_delivered and is_unclassified_reply') }} > 0 as is_unclassified_reply,
        {{ how_many('is_delivered and is_opted_out') }} > 0 as is_opted_out
    from {{ ref('int_journeys') }}
    group by lineage, coalesce(person_id, enrollment_id), journey
),

versions as (
    select
        lineage,
        count(distinct sequence_id) as sequences,
        count(distinct person_id) as people
    from {{ ref('int_journeys') }}
    group by lineage
),

counted as (
    select
        lineage,
        cast(sum(enrollments) as bigint) as enrollments,
        cast(sum(upgrades) as bigint) as upgrades,
        {{ funnel_counts() }}
    from journeys
    group by lineage
)

select
    counted.lineage as sequence_name,
    versions.sequences,
    versions.people,
    enrollments,
    upgrades,
    {{ funnel() }}
from counted
inner join versions on versions.lineage = counted.lineage
