with judged as (
    select
        sequence_id,
        sequence_name,
        days_to_reply,
        is_delivered and has_reply as is_reply,
        is_delivered and is_human_reply as is_human,
        is_delivered and is_unclassified_reply as is_unclassified,
        is_delivered and is_human_reply and days_to_reply is not null as is_timed
    from {{ ref('fct_enrollments') }}
),

placed as (
    select
        judged.*,
        row_number() over (
            partition by sequence_id, sequence_name, is_timed
            order by days_to_reply
        ) as place,
        count(*) over (partition by sequence_id, sequence_name, is_timed) as places
    from judged
)

select
    sequence_id,
    sequence_name,
    {{ how_many('is_reply') }} as replies,
    {{ how_many('is_human') }} as human_replies,
    {{ how_many('is_unclassified') }} as unclassified_replies,
    {{ how_many('is_timed') }} as timed_replies,
    -- median_days: half of the human replies came within this many days. It is the wait of one of
    -- them, not a value between two, so it is the same in every database; p90_days likewise.
    -- Computed from row numbers: not every database has percentile_disc, and some only estimate it.
    min(case when is_timed and 2 * place >= places then days_to_reply end) as median_days,
    min(case when is_timed and 10 * place >= 9 * places then days_to_reply end) as p90_days
from placed
group by sequence_id, sequence_name
