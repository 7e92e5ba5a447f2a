-- KEYS 4..: the lists. ARGV: token, most bytes to answer, then for each list its field names in one string. Answers values in
-- this order, at least one, until they come to that many bytes.
local h, why = open()
if not h then return {why} end
if not has(h, ARGV[1]) then return {'refused', head(h)} end
local answer, bytes, most = {'ok', head(h)}, 0, tonumber(ARGV[2])
for k = 4, #KEYS do
  for _, f in ipairs(cut(ARGV[k - 1], 42)) do
    local v = call('HGET', KEYS[k], f)
    if not v then return {'gone', head(h), sub(KEYS[k], -20) .. f} end
    answer[#answer + 1] = v
    bytes = bytes + #v
    if bytes >= most then return answer end
  end
end
return answer
