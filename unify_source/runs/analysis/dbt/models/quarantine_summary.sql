with held as (
    {{ rows_of('enrollments_quarantine', {'reason': 'text', 'seen_at': 'timestamp with time zone'}) }}
)

select
    reason,
    count(*) as row_count,
    max(seen_at) as last_seen_at
from held
group by reason
