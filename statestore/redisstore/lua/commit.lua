-- KEYS 4..: the lists written. ARGV: applied, token of top, to, max time, now ('' keeps), stage id ('' none), staged, groups.
local h, why = open()
if not h then
  unstage(ARGV[6])
  return {why}
end
if h.applied ~= ARGV[1] or token(h.top) ~= ARGV[2] then
  unstage(ARGV[6])
  return {'conflict', head(h)}
end

-- A mark is left: a commit died on its way. What it wrote is at or beyond applied. Refused offsets below the base cut stay:
-- those came with the restore, and no commit refuses any before it has passed that cut.
if h.mark ~= '' then
  local slices = call('HGETALL', S)
  for i = 2, #slices, 2 do
    if not hex(slices[i], 16) then return {'damaged'} end
  end
  for i = 1, #slices, 2 do
    local name = slices[i]
    if not lt(slices[i + 1], h.applied) then
      local dead, most = {}, nil
      for _, f in ipairs(call('HKEYS', list(name))) do
        local from = sub(f, 1, 16)
        if lt(from, h.applied) or (sub(name, 1, 4) == 'fffd' and lt(from, offset(h.base))) then
          if not most or lt(most, from) then most = from end
        else
          dead[#dead + 1] = f
        end
      end
      del(list(name), dead)
      if most then call('HSET', S, name, most) else call('HDEL', S, name) end
    end
  end
end

local all, miss = groups(8, ARGV[6], ARGV[7])
if not all then return {miss} end

if #all > 0 then
  call('HSET', M, 'mark', 'c')
  put(all)
else
  through()
end
h.applied = ARGV[3]
if lt(h.maxts, ARGV[4]) then h.maxts = ARGV[4] end
if ARGV[5] ~= '' then h.at = ARGV[5] end
call('HSET', M, 'applied', h.applied, 'maxts', h.maxts, 'at', h.at, 'mark', '') -- the rest is as it was
-- Parts that others staged are of commits that can no longer succeed, or of calls that will stage again.
if ARGV[6] ~= '' then call('UNLINK', R) end
return {'ok', head(h)}
