-- Making room: events are removed, oldest first, in bounded steps, and every removal leaves its number
-- behind; idempotency keys whose window is over are forgotten.

-- How many events one call removes beside as many as it adds.
local REMOVED = 512

-- How many idempotency keys one call forgets.
local FORGOTTEN_KEYS = 1000

-- As `Event::cost` counts: the entry holds two bytes beside the texts, and 256 are charged flat.
local function cost_of(name, entry)
  return #name + #entry + 254
end

-- Whether a topic holds state of the broker's own, as `Topic::is_state` says: outside the bound on all
-- topics together, and removed by nothing else's bytes.
local function is_state(name)
  return name == '$sys.revoked' or string.sub(name, 1, 14) == '$sys.webhooks.'
end

-- What all that costs.
local function state_bytes()
  local names = redis.call('ZRANGEBYLEX', TOPICS, '[$sys.', '($sys/')
  local sum = 0
  for _, name in ipairs(names) do
    if is_state(name) then sum = sum + (tonumber(redis.call('HGET', BYTES, name)) or 0) end
  end
  return sum
end

-- Forgets the oldest removals of so many topics that lost theirs; what they say goes into the floor.
local function forget_lost(log)
  local most = redis.call('ZCARD', TOPICS) + EMPTIED_TOPICS
  local surplus = redis.call('ZCARD', LOST) - most
  if surplus <= 0 then return end
  local forgotten = redis.call('ZPOPMIN', LOST, math.min(surplus, 16))
  for at = 2, #forgotten, 2 do log.floor = math.max(log.floor, tonumber(forgotten[at])) end
end

-- Removes up to `count` events of a topic from number `from` to `upto`; how many there were, and their cost.
local function remove(log, name, stream, count, from, upto)
  local oldest = redis.call('XRANGE', stream, from, upto, 'COUNT', count)
  if #oldest == 0 then return 0, 0 end
  local ids, cost = {}, 0
  for at, event in ipairs(oldest) do
    ids[at] = event[1]
    cost = cost + cost_of(name, event[2][2])
  end
  redis.call('XDEL', stream, unpack(ids))
  redis.call('XDEL', ORDER, unpack(ids))
  -- What stands ahead of a step of the clock may go after what came behind it.
  redis.call('ZADD', LOST, 'GT', string.match(ids[#ids], '%d+'), name)
  log.bytes = log.bytes - cost
  if redis.call('XLEN', stream) == 0 then
    redis.call('DEL', stream)
    redis.call('HDEL', BYTES, name)
    redis.call('ZREM', TOPICS, name)
  else
    redis.call('HINCRBY', BYTES, name, whole(-cost))
  end
  forget_lost(log)
  return #ids, cost
end

-- Removes the oldest events of all while they are more than `max_bytes`, at most `left`; how many.
-- Their topics are named by the index, so the keys are made here; they carry the tag of all the others. Of
-- what is kept up to number `spared`, all is state of the broker's own.
local function trim(log, max_bytes, left)
  local tag, looked_at = string.match(LOG, '^{.-}'), 0
  if log.bytes > max_bytes then max_bytes = max_bytes + state_bytes() end
  while looked_at < left and log.bytes > max_bytes do
    local oldest = redis.call('XRANGE', ORDER, '(' .. whole(log.spared) .. '-0', '+', 'COUNT', 2)
    if #oldest < 2 then break end
    local id, name = oldest[1][1], oldest[1][2][2]
    if is_state(name) then
      log.spared = tonumber(string.match(id, '%d+'))
    elseif remove(log, name, tag .. ':t:' .. name, 1, '-', id) == 0 then
      redis.call('XDEL', ORDER, id)
    end
    looked_at = looked_at + 1
  end
  return looked_at
end

-- Forgets keys whose window is over.
local function forget_keys(now)
  local over = redis.call('ZRANGEBYSCORE', RECEIPTS, '-inf', whole(now), 'LIMIT', 0, FORGOTTEN_KEYS)
  if #over > 0 then redis.call('ZREM', RECEIPTS, unpack(over)) end
end
