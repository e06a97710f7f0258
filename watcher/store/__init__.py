"""The results database: schema, engine, migrations, and one method per verb with one transaction per method."""
