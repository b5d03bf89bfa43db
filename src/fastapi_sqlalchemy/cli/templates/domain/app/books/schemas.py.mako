<%include file="/parts/schemas.mako"/>\
