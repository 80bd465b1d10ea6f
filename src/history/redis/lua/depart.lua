-- Notes that sessions have left, and when their values end.
--
-- ARGV: 8 and on, each session as values are listed that are bound to it, and for how many milliseconds they stay.

local log = enter()
local today = tick(log) - log.ends_later
for n = 8, #ARGV, 2 do
  redis.call('ZADD', LEFT, whole(today + tonumber(ARGV[n + 1])), ARGV[n])
end
save(log)
return values_of(log)
