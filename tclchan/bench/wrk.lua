-- Has wrk say what it counted, as one line of JSON on standard error.

done = function(summary, latency, requests)
    local errors = summary.errors
    io.stderr:write(string.format(
        '{"count": %d, "bytes": %d, "seconds": %.6f, "p50_us": %.3f, "p99_us": %.3f, ' ..
        '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\n',
        summary.requests, summary.bytes, summary.duration / 1e6,
        latency:percentile(50), latency:percentile(99),
        errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
