-- KEYS 4..: the lists written. ARGV: token, lists to drop (20 each), trims (list, to: 36 each), deltas to remove (list, field:
-- 62 each), stage id, staged, groups. Lists to drop, trim and remove from are not declared: there can be thousands.
local h, why = open()
if not h then
  unstage(ARGV[5])
  return {why}
end
if token(h.top) ~= ARGV[1] then
  unstage(ARGV[5])
  return {'refused', head(h)}
end
-- The fields to remove, by list. Where they are much of a list, one look at all of it tells whether they are there.
local removes, order = {}, {}
for _, r in ipairs(cut(ARGV[4], 62)) do
  local name = sub(r, 1, 20)
  if not removes[name] then
    removes[name] = {}
    order[#order + 1] = name
  end
  removes[name][#removes[name] + 1] = sub(r, 21)
end
for _, name in ipairs(order) do
  local key, fields, there = list(name), removes[name], nil
  if #fields > 8 and call('HLEN', key) < 4 * #fields then
    there = {}
    for _, f in ipairs(call('HKEYS', key)) do there[f] = true end
  end
  for _, f in ipairs(fields) do
    if there and not there[f] or not there and call('HEXISTS', key, f) == 0 then
      unstage(ARGV[5])
      return {'gone', head(h), name .. f}
    end
  end
end
local all, miss = groups(7, ARGV[5], ARGV[6])
if not all then return {miss} end

through()
local touched = {}
for _, name in ipairs(cut(ARGV[2], 20)) do
  call('UNLINK', list(name))
  touched[name] = true
end
for _, t in ipairs(cut(ARGV[3], 36)) do
  local name, to, dead = sub(t, 1, 20), sub(t, 21), {}
  for _, f in ipairs(call('HKEYS', list(name))) do
    if not lt(to, sub(f, 19, 34)) then dead[#dead + 1] = f end
  end
  del(list(name), dead)
  touched[name] = true
end
-- Lists that are dropped or trimmed in part are harmless; deltas that are replaced in part would be counted twice or never.
if #order > 0 or #all > 0 then call('HSET', M, 'mark', 'w') end
for _, name in ipairs(order) do
  del(list(name), removes[name])
  touched[name] = true
end
put(all)
for name in pairs(touched) do
  if call('EXISTS', list(name)) == 0 then call('HDEL', S, name) end
end
if #order > 0 or #all > 0 then call('HSET', M, 'mark', h.mark) end
if ARGV[5] ~= '' then call('UNLINK', R) end
return {'ok', head(h)}
