//! From transactions to spans, RED metrics and OTLP.
