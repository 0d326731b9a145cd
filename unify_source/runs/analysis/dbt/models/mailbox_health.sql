with counted as (
    select
        m.id as mailbox_id,
        m.email,
        m.display_name,
        m.is_paused,
        m.is_unauthorized,
        max(e.started_at) as last_started_at,
        {{ funnel_counts() }}
    from {{ source('unify', 'mailboxes') }} as m
    left join {{ ref('int_enrollments') }} as e on e.mailbox_id = m.id
    group by m.id, m.email, m.display_name, m.is_paused, m.is_unauthorized
),

rated as (
    select
        mailbox_id,
        email,
        display_name,
        is_paused,
        is_unauthorized,
        last_started_at,
        {{ funnel() }}
    from counted
),

ranked as (
    select
        *,
        -- concern_rank: 1 is the most urgent, 4 is no concern. A mailbox that Unify is not
        -- authorized to use sends nothing. One with bounces in 5 % of at least 20 enrollments harms
        -- its domain with every further e-mail; a rule of thumb is to stay below 2 %. One that is
        -- paused may be paused on purpose.
        cast(
            case
                when is_unauthorized then 1
                when started >= 20 and bounce_percent >= 5 then 2
                when is_paused then 3
                else 4
            end
            as bigint
        ) as concern_rank
    from rated
)

select
    *,
    case concern_rank
        when 1 then 'not authorized'
        when 2 then 'bounces'
        when 3 then 'paused'
    end as concern
from ranked
