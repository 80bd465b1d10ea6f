-- Says which values have ended, each with its number, its envelope and why, and which nodes hold values. Of those that something
-- followed, which a node of an earlier release may have published, nothing ends.
--
-- ARGV: 8 how many at most, 9 by how many milliseconds the clock leapt ahead (or went back) since this was asked last, 10 and
-- on, the nodes that are gone, whose sessions are.

-- How many nodes one call names.
local NODES = 256

local log = enter()
local now = tick(log)
log.ends_later = log.ends_later + tonumber(ARGV[9])
local today = now - log.ends_later
local limit, due, seen = tonumber(ARGV[8]), {}, {}

-- Adds the value of a topic that has ended, if it is the newest event of it.
local function add(name, number, envelope, reason)
  local newest = redis.call('XREVRANGE', stream_of(name), '+', '-', 'COUNT', 1)[1]
  local last = newest and string.match(newest[1], '%d+') or redis.call('ZMSCORE', LOST, name)[1] or 0
  if not number or tonumber(last) > number then
    forget_end(name)
  elseif not seen[name] then
    seen[name] = true
    due[#due + 1] = { name, whole(number), envelope, reason }
  end
end

-- Adds what a holder holds, or all holders of a node; whether that was something.
local function add_bound(holder)
  local from, upto = listed_of(holder)
  local listed = redis.call('ZRANGEBYLEX', BOUND, from, upto, 'LIMIT', 0, limit - #due)
  for _, bound in ipairs(listed) do
    local name = string.match(bound, '%S+$')
    local number, envelope = ending_of(name)
    if number and (holder_in(envelope) or '') .. ' ' .. name == bound then
      add(name, number, envelope, 'left')
    else
      redis.call('ZREM', BOUND, bound)
    end
  end
  return #listed > 0
end

-- Adds what is held by sessions that have left. As many again hold nothing any more since the last call, and some may be
-- forgotten.
local function add_left()
  local left = redis.call('ZRANGEBYSCORE', LEFT, '-inf', whole(today), 'LIMIT', 0, 2 * limit)
  for _, holder in ipairs(left) do
    if string.sub(holder, -#GONE) == GONE then
      redis.call('ZREM', LEFT, holder)
    elseif #due < limit and not add_bound(holder) then
      redis.call('ZREM', LEFT, holder)
      redis.call('ZADD', LEFT, whole(today + REMEMBERED), holder .. GONE)
    end
  end
end

-- The nodes that hold values: the first that is listed, and what comes behind all of it.
local function nodes_that_hold()
  local nodes, from = {}, '-'
  while #nodes < NODES do
    local first = redis.call('ZRANGEBYLEX', BOUND, from, '+', 'LIMIT', 0, 1)[1]
    if not first then return nodes end
    nodes[#nodes + 1] = string.match(first, '^%S+')
    from = '(' .. nodes[#nodes] .. '!'
  end
  return nodes
end

local over = redis.call('ZRANGEBYSCORE', ENDS, '-inf', whole(today), 'LIMIT', 0, limit)
for _, name in ipairs(over) do
  local number, envelope = ending_of(name)
  add(name, number, envelope, 'expired')
end
add_left()
for n = 10, #ARGV do
  if #due < limit then add_bound(ARGV[n]) end
end
local nodes = nodes_that_hold()
if #over == 0 and #nodes == 0 and redis.call('ZCARD', ENDS) == 0 then log.ends_upto = 0 end
save(log)
return { values_of(log), whole(now), due, nodes }
