{% set newest = {
    'enrollments': 'updated_at',
    'sequences': 'updated_at',
    'people': none,
    'mailboxes': none,
    'plays': none,
    'reply_email_messages': 'received_at',
    'reply_classifications': none,
    'users': none,
    'send_schedules': 'updated_at',
    'sequence_rulesets': 'updated_at',
    'enrollments_quarantine': 'seen_at',
} %}
with loads as (
    select max(inserted_at) as last_loaded_at
    from {{ source('unify', '_dlt_loads') }}
    where schema_name = 'unify' and status = 0
),

tables as (
    {% for name, column in newest.items() %}
    select
        '{{ name }}' as table_name,
        count(*) as row_count,
        {{ 'max(' ~ column ~ ')' if column else 'cast(null as timestamp with time zone)' }} as newest_at
    from {{ source('unify', name) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select
    table_name,
    row_count,
    newest_at,
    last_loaded_at
from tables
cross join loads
