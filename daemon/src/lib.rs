//! What every daemon needs: configuration, logs, metrics, shutdown, disk threads
