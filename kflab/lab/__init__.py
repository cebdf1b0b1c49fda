"""One running lab: commands in, immutable snapshots, facts and traces out."""
