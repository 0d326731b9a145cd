{#- All counts and rates of the funnel are defined here, so that no two models can disagree. -#}

{%- macro how_many(condition) -%}
count(case when {{ condition }} then 1 end)
{%- endmacro -%}

{#- Whether it holds for any row of a group: null if it holds for none, but is unknown for some. -#}
{%- macro any_of(condition) -%}
case
            when {{ how_many(condition) }} > 0 then true
            when {{ how_many('(' ~ condition ~ ') is null') }} = 0 then false
        end
{%- endmacro -%}

{#- `units` rounded to an integer, in wholes of `per_whole`. With `floor`, which is the same in every
    database; `round` breaks ties differently from one type to another. -#}
{%- macro rounded(units, per_whole) -%}
floor({{ units }} + 0.5) / {{ per_whole }}.0
{%- endmacro -%}

{#- To one decimal. Null if there is nothing to divide by. If nothing was counted but something could
    not be judged, the rate is unknown, and 0 % would be wrong. If something was counted and something
    could not be judged, it is a lower bound. -#}
{%- macro percent(part, whole, unknown) -%}
case when {{ part }} > 0 or {{ unknown }} = 0 then
        {{ rounded('cast(1000 * ' ~ part ~ ' as double precision) / nullif(' ~ whole ~ ', 0)', 10) }}
    end
{%- endmacro -%}

{%- macro funnel_counts() -%}
count(enrollment_id) as enrolled,
        {{ how_many('is_started') }} as started,
        {{ how_many('is_started and is_bounced') }} as bounced,
        {{ how_many('is_delivered') }} as delivered,
        {{ how_many('is_delivered and has_reply') }} as replies,
        {{ how_many('is_delivered and is_human_reply') }} as human_replies,
        {{ how_many('is_delivered and is_positive_reply') }} as positive_replies,
        {{ how_many('is_delivered and is_automated_reply') }} as automated_replies,
        {{ how_many('is_delivered and is_unclassified_reply') }} as unclassified_replies,
        {{ how_many('is_delivered and is_opted_out') }} as opted_out,
        {#- Only for the rates: these null flags are in no version of the API that we know. #}
        {{ how_many('is_delivered and is_human_reply is null') }} as unknown_replies,
        {{ how_many('is_delivered and is_opted_out is null') }} as unknown_opt_outs
{%- endmacro -%}

{%- macro funnel() -%}
enrolled,
    started,
    bounced,
    delivered,
    replies,
    human_replies,
    positive_replies,
    automated_replies,
    unclassified_replies,
    opted_out,
    {#- If it started, but neither bounced nor was delivered, its `is_bounced` is null. #}
    {{ percent('bounced', 'started', '(started - bounced - delivered)') }} as bounce_percent,
    {{ percent('human_replies', 'delivered', 'unknown_replies') }} as human_reply_percent,
    {{ percent('positive_replies', 'delivered', 'unknown_replies') }} as positive_reply_percent,
    {{ percent('opted_out', 'delivered', 'unknown_opt_outs') }} as opt_out_percent
{%- endmacro -%}
