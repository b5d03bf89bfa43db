-- Posts rows that differ from each other and from those of every other run.
local start = os.time() * 1000 + math.random(0, 999)
local number = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

function init(_)
  math.randomseed(os.time())
  start = tostring(os.time()) .. tostring(math.random(100000, 999999))
end

function request()
  number = number + 1
  local body = string.format(
    '{"name":"New %d","email":"n%s-%d@example.com","age":30,"city":"Oslo","is_active":true}', number, start, number)
  return wrk.format(nil, nil, nil, body)
end
