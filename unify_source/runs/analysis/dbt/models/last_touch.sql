with ranked as (
    select
        *,
        row_number() over (
            partition by person_id
            order by started_at desc nulls last, created_at desc nulls last, enrollment_id desc
        ) as place
    from {{ ref('fct_enrollments') }}
),

totals as (
    select
        person_id,
        count(*) as enrollments,
        {{ how_many('is_started') }} as started,
        {{ how_many('is_human_reply') }} as human_replies,
        {{ how_many('is_unclassified_reply') }} as unclassified_replies,
        {{ any_of('is_opted_out') }} as has_opted_out,
        max(case when is_human_reply then replied_at end) as last_human_reply_at
    from {{ ref('fct_enrollments') }}
    group by person_id
)

select
    p.id as person_id,
    p.email as email,
    p.first_name,
    p.last_name,
    -- last_touch_at: the start of the person's latest enrollment. The API shows no single e-mails,
    -- so later steps of the same sequence do not count.
    r.started_at as last_touch_at,
    r.enrollment_id,
    r.sequence_name,
    m.email as mailbox_email,
    r.play_name,
    r.display_status,
    coalesce(t.enrollments, 0) as enrollments,
    coalesce(t.started, 0) as started,
    coalesce(t.human_replies, 0) as human_replies,
    coalesce(t.unclassified_replies, 0) as unclassified_replies,
    t.last_human_reply_at,
    case when t.person_id is null then false else t.has_opted_out end as has_opted_out
from {{ source('unify', 'people') }} as p
left join totals as t on t.person_id = p.id
left join ranked as r on r.person_id = p.id and r.place = 1
left join {{ source('unify', 'mailboxes') }} as m on m.id = r.mailbox_id
