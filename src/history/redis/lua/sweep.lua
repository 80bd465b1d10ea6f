-- Makes room without a publish: over the bound on all topics, and of idempotency keys. Says what time it is.
--
-- ARGV: 8 the most bytes of all topics, 9 the window of a key in milliseconds, 10 and 11 how many values may stay, and
-- the most bytes of them.

local log = enter()
local now = tick(log)
local window = tonumber(ARGV[9])
forget_keys(now)
if log.steps ~= '' then
  -- What was remembered while the clock was ahead would stay until it is there again.
  local after = '(' .. whole(now + window)
  local ahead = redis.call('ZRANGEBYSCORE', RECEIPTS, after, '+inf', 'LIMIT', 0, FORGOTTEN_KEYS)
  for _, receipt in ipairs(ahead) do
    redis.call('PEXPIRE', receipt, whole(window))
    redis.call('ZADD', RECEIPTS, whole(now + window), receipt)
  end
end
local max_stays = { count = tonumber(ARGV[10]), bytes = tonumber(ARGV[11]) }
local looked_at = trim(log, tonumber(ARGV[8]), max_stays, REMOVED)
looked_at = looked_at + trim_stays(log, max_stays, REMOVED - looked_at)
tell_removed(log)
save(log)
return { values_of(log), looked_at, whole(now) }
