-- What every script begins with: the log's own record, its epochs, and the channel.
--
-- KEYS: 1 log, 2 order, 3 topics, 4 lost, 5 bytes, 6 receipts, 7 epochs, 8 stays, 9 versions, 10 ends,
-- 11 endings, 12 bound, 13 left, then those of the script.
-- ARGV: 1 the server's run id, 2-4 the place that the node presents (name, epoch, number; empty and 0
-- where it has none), 5 the channel, 6 a name for a new log, by chance, 7 the server's replication id, until the node was
-- answered over its connection, then those of the script.
--
-- Numbers are Lua's doubles, exact up to 2^53; a new epoch begins at the clock in microseconds, which
-- gets there in the year 2255.

local LOG, ORDER, TOPICS, LOST, BYTES, RECEIPTS, EPOCHS, STAYS, VERSIONS, ENDS, ENDINGS, BOUND, LEFT = unpack(KEYS, 1, 13)
local OWN_KEYS = 13
local RUN, CHANNEL, REPLICATION = ARGV[1], ARGV[5], ARGV[7]
local PRESENTED = { name = ARGV[2], epoch = tonumber(ARGV[3]), seq = tonumber(ARGV[4]) }

-- The record: what it holds of the log, and what each is where there is nothing (where an earlier release
-- wrote it). A node reads the first READ_FIELDS in this order.
local FIELDS = {
  'name', 'epoch', 'start', 'seq', 'breach', 'floor', 'ended', 'steps', 'form', 'dated', 'removals',
  'time', 'run', 'bytes', 'spared', 'listed', 'replication', 'begun', 'leaps', 'stays_bytes', 'stays_upto', 'ends_upto',
  'ends_later',
}
local READ_FIELDS = 11
local TEXTS = {
  name = true, ended = true, steps = true, run = true, replication = true, dated = true, leaps = true,
}

-- How many ended epochs the record names, for nodes of earlier releases, and how many are listed.
local NAMED_EPOCHS, LISTED_EPOCHS = 32, 4096

-- How many steps of the clock are remembered.
local CLOCK_STEPS = 32

-- How many spans of dates before such steps are, and how many leaps ahead since the last one.
local DATED_SPANS, CLOCK_LEAPS = 64, 8

-- How far the clock may fall behind the newest event before times follow it back, in milliseconds.
local STEADY = 5000

-- After how long nobody can have looked at the clock, in milliseconds; somebody does each second.
local UNSEEN = 10000

-- How many topics without events are remembered for the number of their last removed event.
local EMPTIED_TOPICS = 10000

-- Functions are made anew for each call, and cost more than what most calls do: what is seldom needed stands within
-- what needs it.

local function whole(number)
  return string.format('%.0f', number)
end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- The log, and beside it what the record held of each field, as text and as what it means.
local function load()
  local texts = redis.call('HMGET', LOG, unpack(FIELDS))
  if not texts[1] then return nil end
  local log, meant = { texts = texts }, {}
  for at, field in ipairs(FIELDS) do
    local text = texts[at]
    if TEXTS[field] then meant[at] = text or '' else meant[at] = tonumber(text) or 0 end
    log[field] = meant[at]
  end
  log.meant = meant
  return log
end

-- A field as the record holds it, and whether that is new.
local function text_of(log, at)
  local value = log[FIELDS[at]]
  if value == log.meant[at] and log.texts[at] then return log.texts[at], false end
  return type(value) == 'number' and whole(value) or value, true
end

-- What a node reads of the log.
local function values_of(log)
  local values = {}
  for at = 1, READ_FIELDS do values[at] = text_of(log, at) end
  return values
end

-- Writes what is new of the record.
local function save(log)
  local fields = {}
  for at, field in ipairs(FIELDS) do
    local text, is_new = text_of(log, at)
    if is_new then
      fields[#fields + 1] = field
      fields[#fields + 1] = text
    end
  end
  if #fields > 0 then redis.call('HSET', LOG, unpack(fields)) end
end

-- The newest `count` parts of a list of texts that each end with a semicolon.
local function newest(list, count)
  local parts = {}
  for part in string.gmatch(list, '[^;]+;') do parts[#parts + 1] = part end
  return table.concat(parts, '', math.max(1, #parts - count + 1))
end

-- What it takes that the clock of the server may have leapt: it went ahead, or back by more than a little, or nobody looked at it.
local function leap(log, now, elapsed)
  -- Notes which dates the events have that stand before a step of the clock, as `number first last;`: those up to that
  -- number, once they are removed, are hidden from who reads since a time and begins behind it. Where the clock went
  -- ahead meanwhile there are no dates in between. Of too many spans the oldest become one.
  local function note_dates(log)
    local first, spans = log.begun, {}
    for text in string.gmatch(log.dated, '[^;]+;') do spans[#spans + 1] = text end
    local function note(last)
      spans[#spans + 1] = string.format('%.0f %.0f %.0f;', log.seq, first, last)
    end
    for from, to in string.gmatch(log.leaps, '(%d+) (%d+);') do
      note(tonumber(from))
      first = tonumber(to)
    end
    note(log.time)
    while #spans > DATED_SPANS do
      local after, one, last = string.match(table.remove(spans, 1), '(%d+) (%d+) (%d+)')
      local _, other, latest = string.match(spans[1], '(%d+) (%d+) (%d+)')
      one, last = math.min(tonumber(one), tonumber(other)), math.max(tonumber(last), tonumber(latest))
      spans[1] = string.format('%s %.0f %.0f;', after, one, last)
    end
    log.dated, log.leaps = table.concat(spans), ''
  end

  -- Notes up to which number events are dated ahead of the clock, and by what it went back. Where nothing is
  -- kept any more of what stands before a step it is forgotten; where there are too many times stand still.
  local function note_step(log, now)
    local oldest = redis.call('XRANGE', ORDER, '-', '+', 'COUNT', 1)[1]
    local begin = oldest and tonumber(string.match(oldest[1], '%d+')) or log.seq
    local steps = {}
    for after, from, to in string.gmatch(log.steps, '(%d+) (%d+) (%d+);') do
      if tonumber(after) >= begin then steps[#steps + 1] = after .. ' ' .. from .. ' ' .. to .. ';' end
    end
    if #steps == CLOCK_STEPS then return end
    note_dates(log)
    log.begun = now
    steps[#steps + 1] = string.format('%.0f %.0f %.0f;', log.seq, log.time, now)
    log.steps = table.concat(steps)
    log.time = now
  end

  -- The clock went ahead, or nobody looked at it: it may have been right before it went back, and then nothing
  -- is older for that.
  local function raise_steps(log, elapsed)
    log.steps = string.gsub(log.steps, '(%d+) (%d+) (%d+);', function(after, from, to)
      local raised = math.min(tonumber(from), tonumber(to) + elapsed)
      return string.format('%s %s %.0f;', after, from, raised)
    end)
  end

  if elapsed > UNSEEN then
    raise_steps(log, elapsed)
    log.leaps = newest(log.leaps .. string.format('%.0f %.0f;', log.time, now), CLOCK_LEAPS)
  end
  if elapsed < -STEADY then note_step(log, now) end
end

-- The time of the clock in milliseconds. The log's own follows it: back too, where that is by more than a little.
local function tick(log)
  local now = math.floor(clock() / 1000)
  local elapsed = now - log.time
  if elapsed > UNSEEN or elapsed < -STEADY then leap(log, now, elapsed) end
  log.time = math.max(log.time, now)
  return now
end

-- Tells every node of `count` events, encoded in `body`, after number `previous`. Behind them may stand what was removed,
-- which nodes of earlier releases pass over.
local function tell(log, previous, count, body)
  local head = struct.pack('>Bc8I8I8I8I8I4', 1, log.name, log.epoch, log.breach, previous, log.time, count)
  redis.call('SPUBLISH', CHANNEL, head .. body)
end

-- What it takes that the log may not be the one that the node knows, or is none yet.
local function enter_anew(log)
  -- An ended epoch as it is listed: its number, where it began and ended, and whether loss of it was told.
  local function epoch_of(text)
    local epoch, start, last, broken = string.match(text, '(%d+) (%d+) (%d+) (%d)')
    return {
      text = text, epoch = tonumber(epoch), start = tonumber(start), last = tonumber(last),
      is_broken = broken == '1',
    }
  end

  local function listing_of(ended)
    local broken = ended.is_broken and 1 or 0
    return string.format('%.0f %.0f %.0f %d', ended.epoch, ended.start, ended.last, broken)
  end

  -- Lists an ended epoch. Where there are too many, the oldest goes into the next one: its cursors are of no
  -- epoch from then on, which is a gap, and what is kept of it is still read.
  local function list_epoch(ended)
    redis.call('ZADD', EPOCHS, ended.epoch, listing_of(ended))
    if redis.call('ZCARD', EPOCHS) <= LISTED_EPOCHS then return end
    local oldest = redis.call('ZRANGE', EPOCHS, 0, 1)
    local gone, next_one = epoch_of(oldest[1]), epoch_of(oldest[2])
    redis.call('ZREM', EPOCHS, gone.text, next_one.text)
    next_one.start = gone.start
    redis.call('ZADD', EPOCHS, next_one.epoch, listing_of(next_one))
  end

  -- Lists what the record names and is not listed yet: a node of an earlier release lists none, and forgets
  -- all but the newest. What was kept in those that it forgot is of the next one from here on.
  local function list_epochs(log)
    local last = redis.call('ZRANGE', EPOCHS, -1, -1)[1]
    if log.listed == 0 and last then
      redis.call('DEL', EPOCHS)
      last = nil
    end
    local known = last and epoch_of(last) or { epoch = -1, last = -1 }
    local ended = {}
    for text in string.gmatch(log.ended, '[^;]+') do ended[#ended + 1] = epoch_of(text) end
    for at, one in ipairs(ended) do
      if one.epoch > known.epoch then
        if at == 1 and #ended >= NAMED_EPOCHS then one.start = known.last + 1 end
        list_epoch(one)
      end
    end
    log.listed = log.epoch
  end

  -- By how much the number of the next epoch is higher: by chance, so that each time that one snapshot is
  -- brought back it is another, also where the clock is behind the numbers.
  local function stride()
    return 1 + tonumber(string.sub(ARGV[6], -5), 36)
  end

  -- Remembers where the epoch ended, and begins the next one above every number that was ever given.
  local function begin_epoch(log, is_behind)
    local ended = { epoch = log.epoch, start = log.start, last = log.seq, is_broken = is_behind }
    list_epoch(ended)
    log.ended = newest(log.ended .. listing_of(ended) .. ';', NAMED_EPOCHS)
    log.epoch = math.max(log.epoch, PRESENTED.epoch) + stride()
    log.listed = log.epoch
    log.start = math.max(log.seq + 1, PRESENTED.seq, clock())
    log.seq = log.start
    log.run = RUN
  end

  -- Whether the server may have another past than when the log was last entered: it was started anew, or was a
  -- replica meanwhile, which the same run of it may be and come back with less.
  local function is_another(log)
    if log.run ~= RUN then return true end
    return REPLICATION ~= '' and log.replication ~= '' and log.replication ~= REPLICATION
  end

  -- A new log, or the next epoch of the one that the node knew and Redis forgot.
  local function create()
    local is_known = PRESENTED.name ~= ''
    -- Where only the record is gone, numbers that stand in the streams must not come again.
    local newest_kept = redis.call('XREVRANGE', ORDER, '+', '-', 'COUNT', 1)[1]
    local last = newest_kept and tonumber(string.match(newest_kept[1], '%d+')) or -1
    local is_used = is_known or newest_kept
    local start = is_used and math.max(last + 1, PRESENTED.seq, clock()) or 0
    local epoch = is_known and PRESENTED.epoch + stride() or 1
    local log = {
      texts = {}, meant = {}, name = is_known and PRESENTED.name or ARGV[6],
      epoch = epoch, start = start, seq = start,
      breach = start, floor = 0, ended = '', steps = '', form = 1, dated = '', begun = 0, leaps = '', time = 0, run = RUN, bytes = 0, spared = 0,
      listed = epoch, replication = REPLICATION, stays_bytes = 0, stays_upto = 0,
      ends_upto = math.max(last, 0), ends_later = 0, removals = 0,
    }
    redis.call('DEL', EPOCHS, STAYS, VERSIONS)
    if newest_kept then
      -- Nobody knows any more in which epochs they were given.
      local before = { epoch = 0, start = 0, last = last }
      log.ended = listing_of(before) .. ';'
      list_epoch(before)
    end
    return log
  end

  -- Whether the node has seen what the log does not hold, where nobody had told of that yet.
  local function claim(log)
    if PRESENTED.epoch == log.epoch and PRESENTED.seq >= log.start then return false end
    local found = redis.call('ZRANGEBYSCORE', EPOCHS, PRESENTED.epoch, PRESENTED.epoch)[1]
    local ended = found and epoch_of(found)
    if not ended or PRESENTED.seq < ended.start then
      -- An epoch of which nothing is known any more was lost whole.
      return log.breach < log.start
    end
    if ended.is_broken or PRESENTED.seq <= ended.last then return false end
    redis.call('ZREM', EPOCHS, found)
    ended.is_broken = true
    redis.call('ZADD', EPOCHS, ended.epoch, listing_of(ended))
    log.ended = string.gsub(log.ended, found .. ';', listing_of(ended) .. ';')
    return true
  end

  if not log then
    log = create()
  else
    local is_listed = log.listed == log.epoch
    if not is_listed then list_epochs(log) end
    local is_ours = log.name == PRESENTED.name
    local is_behind = is_ours and (PRESENTED.epoch > log.epoch
      or (PRESENTED.epoch == log.epoch and PRESENTED.seq > log.seq))
    local is_news = is_ours and not is_behind and claim(log)
    local is_moved = is_another(log)
    local is_same = REPLICATION == '' or log.replication == REPLICATION
    if not is_same then log.replication = REPLICATION end
    if is_moved or is_behind then
      begin_epoch(log, is_behind)
    elseif not is_news then
      if not (is_listed and is_same) then save(log) end
      return log
    end
    if is_behind or is_news then log.breach = log.seq end
  end
  save(log)
  tell(log, log.seq, 0, '')
  return log
end

-- Whether the log is as the node knows it, on the server on which it was left: for most calls.
local function is_as_known(log)
  return log.run == RUN and (REPLICATION == '' or log.replication == REPLICATION) and log.listed == log.epoch
    and log.name == PRESENTED.name and log.epoch == PRESENTED.epoch
    and PRESENTED.seq >= log.start and PRESENTED.seq <= log.seq
end

-- The log as it is from here on: created where it is missing, in a new epoch where the server is
-- another one or has less than the node has seen.
local function enter()
  local log = load()
  if log and is_as_known(log) then return log end
  return enter_anew(log)
end
