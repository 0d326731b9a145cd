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
        {{ how_many('is_delivered') }} > 0 as is_delivered,
        {{ how_many('is_delivered') }} = 0 as is_bounced,
        {{ how_many('is_delivered and has_reply') }} > 0 as has_reply,
        {{ how_many('is_delivered and is_human_reply') }} > 0 as is_human_reply,
        {{ how_many('is_delivered and is_positive_reply') }} > 0 as is_positive_reply,
        {{ how_many('is_delivered and is_automated_reply') }} > 0 as is_automated_reply,
        {{ how_many('is_delivered and is_unclassified_reply') }} > 0 as is_unclassified_reply,
        {{ how_many('is_delivered and is_opted_out') }} > 0 as is_opted_out
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
