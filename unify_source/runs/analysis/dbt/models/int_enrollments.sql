{# All definitions are here, each with its reason. `make docs` generates the page on the models from
   the comments that begin with the name of a column. #}
with winners as (
    select
        reply_email_message_id,
        min(
            case category
                when 'NEGATIVE' then 1
                when 'POSITIVE' then 2
                when 'NEUTRAL' then 3
                when 'AUTOMATED' then 4
            end
        ) as winner
    from {{ source('unify', 'reply_classifications') }}
    group by reply_email_message_id
),

joined as (
    select
        e.id as enrollment_id,
        e.sequence_id,
        e.person_id,
        e.mailbox_id,
        e.enrolled_by_play_id as play_id,
        e.created_at,
        e.updated_at,
        e.started_at,
        e.ended_at,
        e.status,
        e.is_blocked,
        e.is_bounced,
        e.is_canceled,
        e.is_excluded,
        e.is_opted_out,
        e.is_paused,
        r.received_at as replied_at,
        -- is_started: the enrollment has a `started_at`. The status is not enough: Unify does not
        -- document whether every FINISHED enrollment has started, and one that was blocked,
        -- excluded or canceled as a draft has sent nothing.
        e.started_at is not null as is_started,
        -- has_reply: there is a reply of any kind. It is not documented how `is_replied` relates to
        -- the reply that the API shows, so either counts; null if there is no reply and no flag.
        r.id is not null or e.is_replied as has_reply,
        -- reply_category: the first of NEGATIVE, POSITIVE, NEUTRAL and AUTOMATED among a reply's
        -- classifications; null if there are none. They may contradict one another, and Unify does
        -- not document which one counts. AUTOMATED counts only if it is alone, because a person may
        -- write above an automated text. NEGATIVE comes before POSITIVE, because writing again to
        -- somebody who declined costs more than a second look at a reply that is kinder than it
        -- seemed.
        case w.winner
            when 1 then 'NEGATIVE'
            when 2 then 'POSITIVE'
            when 3 then 'NEUTRAL'
            when 4 then 'AUTOMATED'
        end as reply_category
    from {{ source('unify', 'enrollments') }} as e
    left join {{ source('unify', 'reply_email_messages') }} as r on r.id = e.reply_email_message_id
    left join winners as w on w.reply_email_message_id = r.id
)

select
    enrollment_id,
    sequence_id,
    person_id,
    mailbox_id,
    play_id,
    created_at,
    updated_at,
    started_at,
    ended_at,
    replied_at,
    status,
    is_blocked,
    is_bounced,
    is_canceled,
    is_excluded,
    is_opted_out,
    is_paused,
    is_started,
    has_reply,
    reply_category,
    -- is_delivered: it started and did not bounce, so the person was contacted. The rates of replies
    -- and opt-outs divide by these. If it bounced, earlier e-mails may still have arrived: the API
    -- does not show that.
    is_started and not is_bounced as is_delivered,
    -- is_human_reply: a person replied, that is, the category is not AUTOMATED. Null for a reply
    -- without a classification, which may be human or automated; in the API's older form, which has
    -- no categories, that is every reply.
    case when not has_reply then false else reply_category <> 'AUTOMATED' end as is_human_reply,
    -- is_positive_reply: the category is POSITIVE; null if it is unknown.
    case when not has_reply then false else reply_category = 'POSITIVE' end as is_positive_reply,
    -- is_automated_reply: the category is AUTOMATED, as for an out-of-office reply; null if it is
    -- unknown. Until April 2026 such a reply ended the enrollment; since then the sequence goes on.
    -- So `ended_at` and `FINISHED` are not comparable across that change; human replies are.
    case when not has_reply then false else reply_category = 'AUTOMATED' end as is_automated_reply,
    -- is_unclassified_reply: there is a reply of unknown kind. With any of these, the rates of human
    -- and positive replies are lower bounds, and null instead of 0 %. The column
    -- `unclassified_replies` beside them tells how many.
    has_reply and reply_category is null as is_unclassified_reply,
    -- display_status: the state in one word: the first that applies of opted out, bounced, replied
    -- (by a person, or unclassified), canceled, blocked and excluded; otherwise the API's status,
    -- which is null in the API's older form. What the person or the mail system did comes first,
    -- because it forbids or changes the next step.
    case
        when is_opted_out then 'Opted out'
        when is_bounced then 'Bounced'
        when has_reply and coalesce(reply_category, '') <> 'AUTOMATED' then 'Replied'
        when is_canceled then 'Canceled'
        when is_blocked then 'Blocked'
        when is_excluded then 'Excluded'
        when status = 'DRAFT' then 'Draft'
        when status = 'IN_PROGRESS' and is_paused then 'Paused'
        when status = 'IN_PROGRESS' then 'In progress'
        when status = 'FINISHED' then 'Finished'
        else status
    end as display_status,
    -- days_to_reply: from `started_at` to the reply of any kind, in days of 24 hours, to two
    -- decimals. Null if either time is unknown, or if the reply is older than the start, because
    -- then it answered something else.
    case
        when replied_at >= started_at
            then {{ rounded('cast(extract(epoch from replied_at - started_at) as double precision) / 864', 100) }}
    end as days_to_reply
from joined
