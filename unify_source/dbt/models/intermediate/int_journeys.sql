{# An upgrade of a sequence cancels its enrollments and makes new ones, in a sequence with another
   id. The API does not link the two, so that this has to be concluded. #}
{% set versions %}partition by coalesce(person_id, enrollment_id), lineage order by created_at, enrollment_id{% endset %}
with named as (
    select
        e.*,
        -- lineage: the versions of a sequence share its name. Two sequences that share one by chance
        -- stand in one lineage, too, but no person goes over from one to the other. A version that
        -- was renamed after the upgrade stands alone.
        coalesce(s.name, e.sequence_id) as lineage
    from {{ ref('int_enrollments') }} as e
    left join {{ source('unify', 'sequences') }} as s on s.id = e.sequence_id
),

continued as (
    select
        *,
        -- is_upgrade: the enrollment goes on with one that an upgrade canceled: the same person's
        -- enrollment before it in the lineage was canceled within a day of its creation. Unify
        -- does both in one step; a day allows for slow ones, and is far less than any pause after
        -- which a person is enrolled anew.
        coalesce(
            lag(is_canceled) over ({{ versions }})
            and abs(extract(epoch from created_at - lag(ended_at) over ({{ versions }}))) <= 86400,
            false
        ) as is_upgrade
    from named
)

select
    *,
    -- journey: counts a person's ways through a lineage. Enrollments that go on with one another
    -- are one journey, whatever the number of upgrades.
    cast(
        sum(case when is_upgrade then 0 else 1 end) over ({{ versions }} rows unbounded preceding)
        as bigint
    ) as journey
from continued
