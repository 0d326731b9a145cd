{# Unify tells of no change of a person, a mailbox or a play: a row is as it was when an enrollment
   that nests it was last read. #}
{% set dimensions = [
    'sequences', 'people', 'mailboxes', 'plays', 'users', 'send_schedules', 'sequence_rulesets',
] %}
{% for name in dimensions %}
select
    '{{ name }}' as table_name,
    id,
    _as_of as known_as_of
from {{ source('unify', name) }}
{{ 'union all' if not loop.last }}
{% endfor %}
