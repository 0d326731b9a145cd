select
    sequence_id,
    sequence_name,
    {{ how_many('is_delivered and has_reply') }} as replies,
    {{ how_many('is_delivered and is_human_reply') }} as human_replies,
    {{ how_many('is_delivered and is_unclassified_reply') }} as unclassified_replies,
    {{ how_many('is_delivered and is_human_reply and days_to_reply is not null') }} as timed_replies,
    -- median_days: half of the human replies came within this many days. It is the wait of one of
    -- them, not a value between two, and so the same in every database; p90_days likewise.
    percentile_disc(0.5) within group (
        order by case when is_delivered and is_human_reply then days_to_reply end
    ) as median_days,
    percentile_disc(0.9) within group (
        order by case when is_delivered and is_human_reply then days_to_reply end
    ) as p90_days
from {{ ref('fct_enrollments') }}
group by sequence_id, sequence_name
