"""What clients ask for, without HTTP: the API and the batch process call it.

Here a request is admitted as a job and its result is awaited. `request_limits/` and `lifetime/`
bound both, `responses/` translates the Responses API, `lookup/` reads jobs and their usage, and
`operations/` acts for the operator.
"""
