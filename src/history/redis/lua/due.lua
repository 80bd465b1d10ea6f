-- Says which values have ended, each with its number and envelope. Of those that something followed, which a node of an
-- earlier release may have published, nothing ends.
--
-- ARGV: 8 how many at most, 9 by how many milliseconds the clock leapt ahead (or went back) since this was asked last.

local log = enter()
local now = tick(log)
log.ends_later = log.ends_later + tonumber(ARGV[9])
local over = redis.call('ZRANGEBYSCORE', ENDS, '-inf', whole(now - log.ends_later), 'LIMIT', 0, tonumber(ARGV[8]))
local due = {}
for _, name in ipairs(over) do
  local ending = redis.call('HGET', ENDINGS, name)
  local number, envelope = string.match(ending or '', '^(%d+) (.*)')
  local newest = redis.call('XREVRANGE', stream_of(name), '+', '-', 'COUNT', 1)[1]
  local last = newest and string.match(newest[1], '%d+') or redis.call('ZMSCORE', LOST, name)[1] or 0
  if not number or tonumber(last) > tonumber(number) then
    forget_end(name)
  else
    due[#due + 1] = { name, number, envelope }
  end
end
if #over == 0 and redis.call('ZCARD', ENDS) == 0 then log.ends_upto = 0 end
save(log)
return { values_of(log), whole(now), due }
