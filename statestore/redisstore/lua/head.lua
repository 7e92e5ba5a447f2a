-- Beginning of every script. KEYS: 1 head, 2 slices, 3 stage; what else is declared is said by each script. All other keys are
-- made from the prefix of the first one, so they share its hash tag and its node.
--
-- Lua prints numbers with 14 digits, so nothing is calculated here: values are strings of fixed width that are compared, cut
-- and copied. Lua does not undo what a script did before an error: everything is checked first and changed after.
local M, S, R = KEYS[1], KEYS[2], KEYS[3]
local T = string.sub(M, 1, -2)
local sub, call = string.sub, redis.call

-- lt(a, b): a < b for two strings of 16 hex digits. Not by <, which asks the locale of the server; 32 bits are exact in a double.
local function lt(a, b)
  local x, y = tonumber(sub(a, 1, 8), 16), tonumber(sub(b, 1, 8), 16)
  if x ~= y then return x < y end
  return tonumber(sub(a, 9, 16), 16) < tonumber(sub(b, 9, 16), 16)
end

local function hex(s, n) return s and #s == n and not string.find(s, '[^0-9a-f]') end

-- The head as stored, or nil and the reason. A mark 'w' says that a script died while it rewrote or built the slot: what is
-- left means nothing, so there is no slot.
local function open()
  local v = call('HMGET', M, 'v', 'applied', 'maxts', 'at', 'base', 'top', 'mark')
  if not v[1] or v[7] == 'w' then return nil, 'noslot' end
  if v[1] ~= '01' then
    if hex(v[1], 2) and tonumber(v[1], 16) > 1 then return nil, 'version' end
    return nil, 'damaged'
  end
  for i = 2, 7 do
    if not v[i] then return nil, 'damaged' end
  end
  if #v[2] ~= 16 or #v[3] ~= 16 or #v[4] ~= 16 or not hex(v[2] .. v[3] .. v[4] .. v[5] .. v[6], 176) or #v[5] ~= 64 then
    return nil, 'damaged'
  end
  return {v = v[1], applied = v[2], maxts = v[3], at = v[4], base = v[5], top = v[6], mark = v[7]}
end

local function token(cut) return sub(cut, 1, 32) end
local function offset(cut) return sub(cut, 33, 48) end
local function fence(cut) return sub(cut, 49, 64) end
local function has(h, t) return token(h.base) == t or token(h.top) == t end

-- The head as statestore.EncodeMeta writes it.
local function head(h) return h.v .. h.applied .. h.maxts .. h.at .. h.base .. h.top end

-- save writes the whole head in one command, which also takes the mark away.
local function save(h)
  call('HSET', M, 'v', h.v, 'applied', h.applied, 'maxts', h.maxts, 'at', h.at, 'base', h.base, 'top', h.top, 'mark', '')
end

-- through lets a script go on where the server is full: it refuses the first write of a script if that can take memory, and none
-- after it. This one cannot, the field never exists. For scripts that free memory, and those that a firer needs to get there.
local function through() call('HDEL', M, 'none') end

local function list(name) return T .. 'd:' .. name end

-- del removes hash fields in portions that unpack can take (it fails at 8,000).
local function del(key, fields)
  for i = 1, #fields, 1000 do
    call('HDEL', key, unpack(fields, i, math.min(i + 999, #fields)))
  end
end

-- wipe removes the slot; the stage stays. The head goes first: without it there is no slot, whatever else is left. Where S is
-- damaged it does not name all lists, and one that stayed would be taken for the next slot's: then the server looks through its
-- keys for them.
local function wipe()
  call('UNLINK', M)
  local names, whole = redis.pcall('HKEYS', S), true
  if names.err then names, whole = {}, false end
  for _, name in ipairs(names) do
    whole = whole and hex(name, 20)
    call('UNLINK', list(name))
  end
  if not whole then
    local at = '0'
    repeat -- SCAN, not KEYS, which serverless offers lack
      local page = call('SCAN', at, 'MATCH', list('*'), 'COUNT', 1000)
      at = page[1]
      for _, key in ipairs(page[2]) do call('UNLINK', key) end
    until at == '0'
  end
  call('UNLINK', S)
end

-- cut takes a string apart into pieces of n.
local function cut(s, n)
  local t = {}
  for i = 1, #s, n do t[#t + 1] = sub(s, i, i + n - 1) end
  return t
end

-- staged returns the deltas that were staged under id, as groups does.
local function staged(id, count)
  local all, by, n = {}, {}, 0
  for _, f in ipairs(call('HKEYS', R)) do
    if sub(f, 1, 16) == id then
      local name = sub(f, 17, 36)
      local g = by[name]
      if not g then
        g = {name = name, fields = {}}
        g.get = function(i, j)
          local q = {}
          for k = i, j do q[#q + 1] = id .. name .. g.fields[k] end
          return call('HMGET', R, unpack(q))
        end
        by[name], all[#all + 1] = g, g
      end
      g.fields[#g.fields + 1] = sub(f, 37)
      n = n + 1
    end
  end
  if tostring(n) ~= count then return nil, 'stage' end
  return all
end

-- groups returns the deltas to write, as a list of {name, fields, get, old}; get(i, j) returns the values of fields i to j, old
-- is the largest FROM that is entered for the list. They are those of the call itself (a key for each list from KEYS[4] on, and
-- from ARGV[arg] on for each list its field names in one string, then the values), or those staged before, count of them, if
-- there is an id. nil and the reason if something is missing.
local function groups(arg, id, count)
  local all, why = {}, nil
  for k = 4, #KEYS do
    local fields, first = cut(ARGV[arg] or '', 42), arg
    if #fields == 0 or #fields[#fields] ~= 42 or #KEYS[k] ~= #T + 22 then return nil, 'shape' end
    all[#all + 1] = {name = sub(KEYS[k], #T + 3), fields = fields,
      get = function(i, j) return {unpack(ARGV, first + i, first + j)} end}
    arg = arg + 1 + #fields
  end
  if arg ~= #ARGV + 1 then return nil, 'shape' end
  if id ~= '' then
    all, why = staged(id, count)
    if not all then return nil, why end
  end
  for i = 1, #all, 1000 do
    local names = {}
    for k = i, math.min(i + 999, #all) do names[#names + 1] = all[k].name end
    for k, old in ipairs(call('HMGET', S, unpack(names))) do
      if old and not hex(old, 16) then return nil, 'damaged' end
      all[i + k - 1].old = old
    end
  end
  return all
end

-- unstage removes what was staged under id, when it is not going to be used.
local function unstage(id)
  if id == '' then return end
  local mine = {}
  for _, f in ipairs(call('HKEYS', R)) do
    if sub(f, 1, 16) == id then mine[#mine + 1] = f end
  end
  del(R, mine)
end

-- enter notes the lists of groups with their largest FROM, before anything is written into them, so that whatever was written can be
-- found.
local function enter(all)
  local both = {}
  for _, g in ipairs(all) do
    g.least, g.most = sub(g.fields[1], 1, 16), sub(g.fields[1], 1, 16)
    for i = 2, #g.fields do
      local from = sub(g.fields[i], 1, 16)
      if lt(from, g.least) then g.least = from end
      if lt(g.most, from) then g.most = from end
    end
    if not g.old or lt(g.old, g.most) then
      both[#both + 1] = g.name
      both[#both + 1] = g.most
    end
    if #both >= 2000 then
      call('HSET', S, unpack(both))
      both = {}
    end
  end
  if #both > 0 then call('HSET', S, unpack(both)) end
end

-- put writes the deltas of all groups. A stored delta of the same identity (FROM, BUCKET) but with another field name gives way; there
-- can be one only if the list goes up to the least FROM written, which an append does not.
local function put(all)
  enter(all)
  for _, g in ipairs(all) do
    local key = list(g.name)
    if g.old and not lt(g.old, g.least) then
      local new, stale = {}, {}
      for _, f in ipairs(g.fields) do new[sub(f, 1, 18)] = f end
      for _, f in ipairs(call('HKEYS', key)) do
        local n = new[sub(f, 1, 18)]
        if n and n ~= f then stale[#stale + 1] = f end
      end
      del(key, stale)
    end
    for i = 1, #g.fields, 1000 do
      local j, both = math.min(i + 999, #g.fields), {}
      local values = g.get(i, j)
      for k = i, j do
        both[#both + 1] = g.fields[k]
        both[#both + 1] = values[k - i + 1]
      end
      call('HSET', key, unpack(both))
    end
  end
end
