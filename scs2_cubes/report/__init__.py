"""Tables and status for people; knows no Dagster."""
