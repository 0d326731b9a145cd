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

runs as (
    {{ rows_of('unify_sync_runs', {
        'kind': 'text',
        'outcome': 'text',
        'finished_at': 'timestamp with time zone',
        'window_to': 'timestamp with time zone',
    }) }}
),

last_run as (
    select
        max(finished_at) as last_run_at,
        -- data_current_to: everything that had changed in Unify before this instant is loaded, but for
        -- what became visible later than `lookback`. It moves on with every run, also with one that
        -- found no changes. A backfill does not move it, because it reads a range of the past. A
        -- `sync` with a filter moves it too: the ledger does not tell it from one without.
        max(case when kind in ('sync', 'dlt', 'refresh') then window_to end) as data_current_to
    from runs
    where outcome = 'succeeded' and kind not in ('verify', 'repair')
),

held as (
    {{ rows_of('enrollments_quarantine', {'seen_at': 'timestamp with time zone'}) }}
),

tables as (
    {% for name, column in newest.items() %}
    select
        '{{ name }}' as table_name,
        count(*) as row_count,
        {{ 'max(' ~ column ~ ')' if column else 'cast(null as timestamp with time zone)' }} as newest_at
    from {{ 'held' if name == 'enrollments_quarantine' else source('unify', name) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select
    table_name,
    row_count,
    newest_at,
    last_loaded_at,
    last_run_at,
    data_current_to
from tables
cross join loads
cross join last_run
