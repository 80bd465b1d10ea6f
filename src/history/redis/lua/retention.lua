-- Making room: events are removed, oldest first, in bounded steps, and every removal leaves its number
-- behind; idempotency keys whose window is over are forgotten.

-- How many events one call removes beside as many as it adds.
local REMOVED = 512

-- Under which field the index names the topic of an event: the newest of it stays beyond the bytes of all, or
-- leaves as any other. Nodes of earlier releases write the first.
local STAYING, LEAVING = 'n', 'l'

-- How many idempotency keys one call forgets.
local FORGOTTEN_KEYS = 1000

-- What was removed and is to be told: of each topic the number of the last event, and whether a newer one is kept.
local removed_topics, removed_of = {}, {}

local function note_removed(name, upto, is_superseded)
  local noted = removed_of[name]
  if not noted then
    noted = { upto = upto }
    removed_topics[#removed_topics + 1] = name
    removed_of[name] = noted
  end
  noted.upto, noted.is_superseded = math.max(noted.upto, upto), is_superseded
end

-- That, as it stands behind the events of a message: how often removals were told before, and the topics. Empty where
-- there is nothing to tell.
local function removals(log)
  if #removed_topics == 0 then return '' end
  local parts = { struct.pack('>I8I4', log.removals, #removed_topics) }
  for at, name in ipairs(removed_topics) do
    local noted = removed_of[name]
    parts[at + 1] = struct.pack('>BBI8', noted.is_superseded and 1 or 0, #name, noted.upto) .. name
  end
  log.removals = log.removals + 1
  removed_topics, removed_of = {}, {}
  return table.concat(parts)
end

-- Tells what was removed, with no event.
local function tell_removed(log)
  local body = removals(log)
  if body ~= '' then tell(log, log.seq, 0, body) end
end

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

-- The envelope of an entry, where it has one.
local function envelope_of(entry)
  local flags, kind = string.byte(entry, 1, 2)
  if flags % 4 < 2 then return nil end
  local at = 5 + kind
  return string.sub(entry, at, at - 1 + struct.unpack('>I2', entry, at - 2))
end

-- Finds a member in a text that is an envelope between two places: its bytes, where it is there.
local function member_in(text, tag, at, upto)
  while at < upto do
    local found, length = struct.unpack('>BI2', text, at)
    at = at + 3 + length
    if found == tag then return string.sub(text, at - length, at - 1) end
  end
end

-- Finds a member in the envelope of an entry.
local function member_of(entry, tag)
  local flags, kind = string.byte(entry, 1, 2)
  if flags % 4 < 2 then return nil end
  local at = 5 + kind
  return member_in(entry, tag, at, at + struct.unpack('>I2', entry, at - 2))
end

-- The tags of members that scripts look at.
local REMOVED_MEMBER, VERSION_MEMBER, EPOCH_MEMBER, TTL_MEMBER, HOLDER_MEMBER = 3, 4, 5, 6, 7

-- The number and the envelope of the value of a topic that ends by itself.
local function ending_of(name)
  local number, envelope = string.match(redis.call('HGET', ENDINGS, name) or '', '^(%d+) (.*)')
  return tonumber(number), envelope
end

-- The holder that an envelope names, `NODE SESSION`. Its values are listed as `NODE SESSION TOPIC`.
local function holder_in(envelope)
  return member_in(envelope, HOLDER_MEMBER, 1, #envelope + 1)
end

-- What stands behind a holder that has left and holds nothing. It is remembered for a while, in milliseconds, because what it
-- published last may be stored only then.
local GONE, REMEMBERED = ' .', 600000

-- Between which places all is listed of a holder, or of a node: a space comes before every other character.
local function listed_of(holder)
  return '[' .. holder .. ' ', '(' .. holder .. '!'
end

-- Lets what is there of a topic last.
local function forget_end(name)
  redis.call('ZREM', ENDS, name)
  local number, envelope = ending_of(name)
  if not number then return end
  local holder = holder_in(envelope)
  if holder then redis.call('ZREM', BOUND, holder .. ' ' .. name) end
  redis.call('HDEL', ENDINGS, name)
end

-- How a value that stays is listed: by what it costs and its topic, at its number.
local function stay_of(name, cost)
  return whole(cost) .. ' ' .. name
end

-- Lets the newest event of a topic stay beyond its age or the bytes of all.
local function let_stay(log, name, number, cost)
  if redis.call('ZADD', STAYS, number, stay_of(name, cost)) == 1 then log.stays_bytes = log.stays_bytes + cost end
  log.stays_upto = math.max(log.stays_upto, tonumber(number))
end

-- Whether the event of a number stays, which may be listed as `stay`.
local function is_staying(log, stay, number)
  if number > log.stays_upto then return false end
  return tonumber(redis.call('ZMSCORE', STAYS, stay)[1] or -1) == number
end

-- Notes that the event of a number is there no longer, which may be listed as `stay`.
local function forget_stay(log, stay, number)
  if not is_staying(log, stay, number) then return end
  redis.call('ZREM', STAYS, stay)
  log.stays_bytes = math.max(0, log.stays_bytes - tonumber(string.match(stay, '^%d+')))
end

-- Removes up to `count` events of a topic from number `from` to `upto`; how many there were, and their cost.
-- With `keep_newest` the newest of the topic stays; whether it was among them is the third answer.
local function remove(log, name, stream, count, from, upto, keep_newest)
  local oldest = redis.call('XRANGE', stream, from, upto, 'COUNT', count)
  if #oldest == 0 then return 0, 0, false end
  local length, stays = redis.call('XLEN', stream), false
  local last = oldest[#oldest]
  -- A tombstone is no current value.
  if keep_newest and not member_of(last[2][2], REMOVED_MEMBER) then
    -- It may be older than what came before it, by a step of the clock.
    stays = length == #oldest
      or from ~= '-' and redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1][1] == last[1]
    if stays then
      let_stay(log, name, string.match(last[1], '%d+'), cost_of(name, last[2][2]))
      oldest[#oldest] = nil
      if #oldest == 0 then return 0, 0, true end
    end
  end
  local ids, cost = {}, 0
  for at, event in ipairs(oldest) do
    local its = cost_of(name, event[2][2])
    ids[at] = event[1]
    cost = cost + its
    forget_stay(log, stay_of(name, its), tonumber(string.match(event[1], '%d+')))
  end
  redis.call('XDEL', stream, unpack(ids))
  redis.call('XDEL', ORDER, unpack(ids))
  -- What stands ahead of a step of the clock may go after what came behind it.
  local last_removed = string.match(ids[#ids], '%d+')
  redis.call('ZADD', LOST, 'GT', last_removed, name)
  log.bytes = log.bytes - cost
  if length == #ids then
    redis.call('DEL', stream)
    redis.call('HDEL', BYTES, name)
    redis.call('HDEL', VERSIONS, name)
    redis.call('ZREM', TOPICS, name)
  else
    redis.call('HINCRBY', BYTES, name, whole(-cost))
  end
  local is_superseded = length > #ids
  if is_superseded and from ~= '-' and from ~= '1' then
    -- What is left may have come before a step of the clock.
    local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
    is_superseded = tonumber(string.match(newest[1], '%d+')) > tonumber(last_removed)
  end
  note_removed(name, tonumber(last_removed), is_superseded)
  forget_lost(log)
  return #ids, cost, stays
end

-- Removes the oldest event of a topic where it stayed for being the newest; how many it removed, and their cost.
local function remove_replaced(log, name, stream)
  local id, fields = unpack(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1])
  local stay = stay_of(name, cost_of(name, fields[2]))
  if not is_staying(log, stay, tonumber(string.match(id, '%d+'))) then return 0, 0 end
  return remove(log, name, stream, 1, id, id, false)
end

-- The key of a topic's stream. Topics are named by indices, so it is made here; it carries the tag of all the others.
local function stream_of(name)
  return string.match(LOG, '^{.-}') .. ':t:' .. name
end

-- Removes the oldest of the values that stay while they are too many, at most `left`; how many.
local function trim_stays(log, max_stays, left)
  local removed = 0
  while removed < left
    and (log.stays_bytes > max_stays.bytes or redis.call('ZCARD', STAYS) > max_stays.count) do
    local stay, number = unpack(redis.call('ZRANGE', STAYS, 0, 0, 'WITHSCORES'))
    if not stay then
      log.stays_bytes = 0
      break
    end
    local name = string.match(stay, ' (.*)')
    remove(log, name, stream_of(name), 1, number, number, false)
    -- A node of an earlier release may have removed it already.
    forget_stay(log, stay, tonumber(number))
    removed = removed + 1
  end
  return removed
end

-- Removes the oldest events of all while they are more than `max_bytes`, at most `left`; how many.
-- Of what is kept up to number `spared`, all is state of the broker's own, or stays.
local function trim(log, max_bytes, max_stays, left)
  local looked_at, before = 0, log.stays_bytes
  local function is_over() return log.bytes - log.stays_bytes > max_bytes end
  if is_over() then max_bytes = max_bytes + state_bytes() end
  while looked_at < left and is_over() do
    local oldest = redis.call('XRANGE', ORDER, '(' .. whole(log.spared) .. '-0', '+', 'COUNT', 2)
    if #oldest < 2 then break end
    local id, indexed, name = oldest[1][1], oldest[1][2][1], oldest[1][2][2]
    local is_spared = is_state(name)
    if not is_spared then
      local removed, _, stays = remove(log, name, stream_of(name), 1, '-', id, indexed == STAYING)
      if removed == 0 and not stays then redis.call('XDEL', ORDER, id) end
      is_spared = stays
    end
    if is_spared then log.spared = tonumber(string.match(id, '%d+')) end
    looked_at = looked_at + 1
  end
  if log.stays_bytes > before then trim_stays(log, max_stays, left) end
  return looked_at
end

-- Forgets keys whose window is over.
local function forget_keys(now)
  local over = redis.call('ZRANGEBYSCORE', RECEIPTS, '-inf', whole(now), 'LIMIT', 0, FORGOTTEN_KEYS)
  if #over > 0 then redis.call('ZREM', RECEIPTS, unpack(over)) end
end
