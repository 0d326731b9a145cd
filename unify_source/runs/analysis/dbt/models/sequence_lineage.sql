{# Upgrading a sequence cancels its enrollments and creates new ones, in a sequence with another id.
   Counting enrollments would count these people twice. #}
with named as (
    select
        e.*,
        -- lineage: the versions of a sequence share its name, and nothing else in the API links
        -- them. So sequences that share a name by chance form one lineage, and a version that was
        -- renamed after the upgrade is in a lineage of its own.
        coalesce(s.name, e.sequence_id) as lineage,
        coalesce(e.person_id, e.enrollment_id) as person
    from {{ ref('int_enrollments') }} as e
    left join {{ source('unify', 'sequences') }} as s on s.id = e.sequence_id
),

people as (
    select
        lineage,
        min(enrollment_id) as enrollment_id,
        {{ how_many('is_started') }} > 0 as is_started,
        {{ any_of('is_delivered') }} as is_delivered,
        not {{ any_of('is_delivered') }} as is_bounced,
        {{ any_of('is_delivered and has_reply') }} as has_reply,
        {{ any_of('is_delivered and is_human_reply') }} as is_human_reply,
        {{ any_of('is_delivered and is_positive_reply') }} as is_positive_reply,
        {{ any_of('is_delivered and is_automated_reply') }} as is_automated_reply,
        {{ any_of('is_delivered and is_unclassified_reply') }} as is_unclassified_reply,
        {{ any_of('is_delivered and is_opted_out') }} as is_opted_out
    from named
    group by lineage, person
),

versions as (
    select
        lineage,
        count(distinct sequence_id) as sequences,
        count(*) as enrollments
    from named
    group by lineage
),

counted as (
    select
        lineage,
        {{ funnel_counts() }}
    from people
    group by lineage
)

select
    counted.lineage as sequence_name,
    versions.sequences,
    versions.enrollments,
    {{ funnel() }}
from counted
inner join versions on versions.lineage = counted.lineage
