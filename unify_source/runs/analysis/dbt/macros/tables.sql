{#- Rows of a table that a dataset may lack, such as one of an older version: there are none then.
    `columns` has the type of each column that a model reads. -#}
{%- macro rows_of(table, columns) -%}
{%- set relation = load_relation(source('unify', table)) -%}
{%- if relation -%}
select {{ columns | join(', ') }} from {{ relation }}
{%- else -%}
select
    {%- for name, type in columns.items() %} cast(null as {{ type }}) as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
    from (select 1 as one) as nothing
    where one = 0
{%- endif -%}
{%- endmacro -%}
