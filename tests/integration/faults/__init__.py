"""What happens when things break: for each fault what client, app, metric and log then show."""
